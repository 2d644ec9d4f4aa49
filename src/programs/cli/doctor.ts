/** `runtime-broker doctor`: everything an operator would look at, a line each. */
import { Command, Options } from "@effect/cli"
import { Console, Effect, Option } from "effect"
import * as BrokerConfigSources from "../../layers/BrokerConfigSources.js"
import { baseDirectory } from "../../layers/PathsUserData.js"
import { defaults } from "../../services/BrokerConfig.js"
import type { Paths } from "../../services/Paths.js"
import { type Check, ok, problem, warning } from "./doctor/check.js"
import { checkFiles } from "./doctor/files.js"
import { checkLife } from "./doctor/life.js"
import { checkLedger, checkRunning } from "./doctor/running.js"
import { checkDisk, checkMessages, checkStore } from "./doctor/store.js"
import { Exit } from "./exit.js"
import { directoriesOf, pathsOf, whileNoBrokerRuns } from "./offline.js"
import { clientOf, whichBroker } from "./where.js"
import { json, plain } from "./words.js"

const ledger = Options.boolean("ledger").pipe(
  Options.withDescription("Count the messages of the store, too, and compare them with the books")
)

/** What package.json demands. */
const oldestNode = [20, 19] as const

const checkNode = (): Check => {
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number)
  const isEnough = major > oldestNode[0] || (major === oldestNode[0] && minor >= oldestNode[1])
  const version = `This is Node ${process.versions.node}`
  return isEnough ? ok("node", `${version}.`) : problem("node", `${version}; install ${oldestNode.join(".")} or newer.`)
}

const settings = Effect.suspend(() => {
  const flags = { environment: process.env, flags: {} }
  return BrokerConfigSources.read(BrokerConfigSources.sourcesFor(baseDirectory(process.env), flags))
})

const checkVariables = (): ReadonlyArray<Check> =>
  BrokerConfigSources.unknownVariables(process.env).map((name) =>
    warning("settings", `${name} is no setting and has no effect. See docs/settings.md for those there are.`)
  )

/** One identity: the broker that runs for it, or the files of one that does not. */
const checkIdentity = (paths: Paths["Type"], isLedgerAsked: boolean): Effect.Effect<ReadonlyArray<Check>> =>
  Effect.gen(function* () {
    const { checks, pid } = yield* checkLife(paths)
    const about = pid === undefined ? closed(paths, isLedgerAsked) : running(paths, pid, isLedgerAsked)
    return [...checkFiles(paths), ...checks, ...(yield* about)]
  })

const running = (paths: Paths["Type"], pid: number, isLedgerAsked: boolean) =>
  Effect.gen(function* () {
    const checks = yield* checkRunning(pid)
    const answers = checks.some(({ check, level }) => check === "answer" && level === "ok")
    return isLedgerAsked && answers ? [...checks, ...(yield* checkLedger)] : checks
  }).pipe(Effect.provide(clientOf({ account: "", directory: Option.some(paths.directory) })))

const closed = (paths: Paths["Type"], isLedgerAsked: boolean) =>
  Effect.gen(function* () {
    const checks = yield* checkStore(paths)
    return isLedgerAsked ? [...checks, ...(yield* checkMessages(paths))] : checks
  }).pipe(
    whileNoBrokerRuns(paths, { command: "doctor", otherwise: "It has just come; ask again.", isReader: true }),
    Effect.catchAll(({ message }) => Effect.succeed([problem("lock", message)]))
  )

export const doctor = Command.make("doctor", { ...whichBroker, ledger, json }, (options) =>
  Effect.gen(function* () {
    const given = yield* Effect.either(settings)
    const directories = directoriesOf(options)
    const limit = given._tag === "Right" ? given.right.freeDiskBytes : defaults.freeDiskBytes
    const checks = [
      checkNode(),
      given._tag === "Right" ? ok("settings", "The settings can be read.") : problem("settings", given.left.message),
      ...checkVariables(),
      ...(directories.length === 0 ? [ok("files", "No broker of this account has ever run here.")] : []),
      ...(yield* Effect.forEach(directories, (directory) => checkIdentity(pathsOf(directory), options.ledger))).flat(),
      ...(directories[0] === undefined ? [] : [yield* checkDisk(directories[0], limit)])
    ]
    const lines = checks.map(({ check, level, message }) => `${level.padEnd(8)} ${check.padEnd(10)} ${plain(message)}`)
    yield* Console.log(options.json ? JSON.stringify({ checks }) : lines.join("\n"))
    const count = checks.filter(({ level }) => level === "problem").length
    if (count > 0)
      yield* new Exit({ code: 1, message: count === 1 ? "There is a problem." : `There are ${count} problems.` })
  })
).pipe(Command.withDescription("Checks files, process, link, store and disk. Ends with 1 when there is a problem."))
