/** The launcher of the built package at work in processes of its own, and the brokers it starts. */
import { cpSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { assert } from "@effect/vitest"
import { Effect, type Scope } from "effect"
import { holderOf } from "../../src/layers/machine/fileLock.js"
import { identityDirectory } from "../../src/layers/machine/userData.js"
import type { LaunchFailure } from "../../src/programs/client/launchErrors.js"
import type { DiscoverOptions, FoundBroker } from "../../src/programs/client/launchOptions.js"
import { version } from "../../src/services/model/Version.js"
import { dist, temporaryDirectory } from "./broker.js"
import { idleProcess, startProcess } from "./startedProcess.js"

/** So many processes, and callers in each; more by `npm run soak launcher`. */
export const processes = Number(process.env.LAUNCH_PROCESSES ?? 3)
export const callers = Number(process.env.LAUNCH_CALLERS ?? 5)

const program = fileURLToPath(new URL("launcher.mjs", import.meta.url))

export interface Launched {
  readonly found?: FoundBroker
  readonly error?: LaunchFailure
  /** Counted inside its process, from the start of the import. */
  readonly ms: number
}

/** Where the brokers of a test are; each that was started is killed when the test ends. */
export interface Ground {
  readonly userData: string
  readonly directory: string
  readonly options: DiscoverOptions
  /** The processes of brokers that run here. */
  readonly brokers: () => ReadonlyArray<number>
  /** So many callers in a process of their own. */
  readonly call: (callers: number, options?: Partial<DiscoverOptions>) => Effect.Effect<ReadonlyArray<Launched>>
  /** The same in many processes at once. */
  readonly storm: (options?: Partial<DiscoverOptions>) => Effect.Effect<ReadonlyArray<Launched>>
}

/** Processes whose environment names this directory: the brokers, and nothing else while no launcher runs. */
const processesOf = (userData: string): ReadonlyArray<number> => {
  const isOurs = (pid: string) => {
    try {
      const isHere = readFileSync(`/proc/${pid}/environ`, "utf8").includes(`MASONS_BROKER_USER_DATA=${userData}\0`)
      return isHere && readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("broker")
    } catch {
      return false
    }
  }
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && isOurs(name))
    .map(Number)
}

const runCallers = (callers: number, options: DiscoverOptions): Effect.Effect<ReadonlyArray<Launched>> =>
  startProcess({
    command: process.execPath,
    args: [program, JSON.stringify({ callers, options })],
    env: { PATH: process.env.PATH ?? "", HOME: options.userDataDir ?? "" }
  }).pipe(
    Effect.flatMap(({ ended }) => ended),
    Effect.scoped,
    Effect.map(({ code, stderr, stdout }) => {
      if (code !== 0) throw new Error(`the launcher's process ended with ${code}: ${stderr}`)
      return JSON.parse(stdout)
    })
  )

/** A directory without a broker. */
export const launchGround = (given: Partial<DiscoverOptions> = {}): Effect.Effect<Ground, never, Scope.Scope> =>
  Effect.gen(function* () {
    const userData = yield* temporaryDirectory
    const options = { accountId: "default", runtimeToken: "loopback", userDataDir: userData, ...given }
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        for (const pid of processesOf(userData)) process.kill(pid, "SIGKILL")
      })
    )
    const call: Ground["call"] = (callers, more = {}) => runCallers(callers, { ...options, ...more })
    return {
      userData,
      directory: identityDirectory(userData, options.accountId, options.runtimeToken),
      options,
      brokers: () => processesOf(userData),
      call,
      storm: (more) =>
        Effect.map(
          Effect.all(
            Array.from({ length: processes }, () => call(callers, more)),
            { concurrency: "unbounded" }
          ),
          (results) => results.flat()
        )
    }
  })

/** A program that notes each start, does something, and becomes the broker. */
export const programThat = ({ userData }: Ground, does: string) =>
  Effect.sync(() => {
    const [file, starts] = [join(userData, "program.mjs"), join(userData, "starts")]
    const lines = [
      'import { appendFileSync } from "node:fs"',
      `appendFileSync(${JSON.stringify(starts)}, process.pid + "\\n")`,
      does,
      `await import(${JSON.stringify(dist("programs/broker.js"))})`
    ]
    writeFileSync(file, lines.join("\n"))
    return { file, starts: (): ReadonlyArray<number> => readFileSync(starts, "utf8").trim().split("\n").map(Number) }
  })

/** All found the same broker, the only one that runs, and one of them started it; what launching needed is gone. */
export const allFoundOne = (ground: Ground, results: ReadonlyArray<Launched>): FoundBroker => {
  for (const { error } of results) assert.isUndefined(error)
  const [{ found }] = results as [Launched]
  for (const result of results) assert.deepStrictEqual({ ...result.found, spawned: true }, { ...found, spawned: true })
  assert.strictEqual(results.filter(({ found }) => found?.spawned).length, 1, "one of them started it")
  assert.deepStrictEqual(ground.brokers(), [found!.pid], "one broker runs")
  const left = readdirSync(ground.directory).filter((name) => /^discovery\.json\.|^starting/.test(name))
  assert.deepStrictEqual(left, [], "nothing of the start is left")
  return found!
}

/** Puts a file into the identity's directory. */
export const put = ({ directory }: Ground, name: string, content: string | object) =>
  Effect.sync(() => {
    mkdirSync(directory, { recursive: true, mode: 0o700 })
    const text = typeof content === "string" ? content : JSON.stringify(content)
    writeFileSync(join(directory, name), text, { mode: 0o600 })
  })

export const readJson = ({ directory }: Ground, name: string) =>
  JSON.parse(readFileSync(join(directory, name), "utf8")) as any

/** The lock of a process that has ended, with everything else as it would be. */
export const lockOfTheDead = Effect.scoped(
  Effect.gen(function* () {
    const { pid } = yield* idleProcess
    return yield* Effect.promise(() => holderOf(pid, "0123456789ab"))
  })
)

/** A process that has nothing to do with brokers, and a lock that names it by its id alone: its start is another. */
export const lockOfAnother = Effect.map(idleProcess, (bystander) => ({
  bystander,
  lock: { version: 1, pid: bystander.pid, startedAs: "1", bootId: null, mark: "0123456789ab" }
}))

/** The built broker once more, as an older version; the path of its program. */
export const olderProgram: Effect.Effect<string, never, Scope.Scope> = Effect.map(temporaryDirectory, (directory) => {
  cpSync(dist("programs"), join(directory, "programs"), { recursive: true })
  symlinkSync(fileURLToPath(new URL("../../node_modules", import.meta.url)), join(directory, "node_modules"))
  writeFileSync(join(directory, "package.json"), '{"type":"module"}')
  const bundle = join(directory, "programs/bundle")
  const ours = new RegExp(`\\b(version\\s*=\\s*)(["'\`])${version.replaceAll(".", "\\.")}\\2`)
  let replaced = 0
  for (const name of readdirSync(bundle)) {
    const text = readFileSync(join(bundle, name), "utf8")
    const older = text.replace(ours, (_, before, quote) => `${before}${quote}0.0.9${quote}`)
    if (older !== text) replaced++
    writeFileSync(join(bundle, name), older)
  }
  assert.strictEqual(replaced, 1, "the version is in the bundle once")
  return join(directory, "programs/broker.js")
})
