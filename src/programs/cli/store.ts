/** `runtime-broker store …`: the durable store, of a running broker or of none. */
import { existsSync, realpathSync } from "node:fs"
import * as path from "node:path"
import { Args, Command, Options } from "@effect/cli"
import { Console, Effect } from "effect"
import { setAsideFile } from "../../layers/lmdb/salvage.js"
import * as Tools from "../../layers/lmdb/tools.js"
import { BrokerClient } from "../../services/BrokerClient.js"
import type { Inspection, Verification } from "../../services/ipc/StoreGroup.js"
import type { Paths } from "../../services/Paths.js"
import type { StoreError } from "../../services/StoreReport.js"
import { Exit } from "./exit.js"
import { exportTo } from "./exported.js"
import { pathsOf, storeOf, type WhichBroker, whileNoBrokerRuns } from "./offline.js"
import { clientOf, whichBroker } from "./where.js"
import { bytes, counts, json, plural } from "./words.js"

const failed = ({ message }: StoreError) => new Exit({ code: 1, message })

const silent = "It does not answer; wait until it does, or end it."

/** Asks the running broker; where none runs, looks itself, and no broker starts meanwhile. */
const onlineOr = <A, E1, E2>(
  command: string,
  options: WhichBroker,
  online: (client: BrokerClient["Type"]) => Effect.Effect<A, E1>,
  offline: (paths: Paths["Type"]) => Effect.Effect<A, E2>
) =>
  Effect.flatMap(BrokerClient, online).pipe(
    Effect.provide(clientOf(options)),
    Effect.catchIf(
      (error) => (error as { readonly _tag?: string })._tag === "NoBroker",
      () =>
        Effect.flatMap(storeOf(options), (paths) =>
          offline(paths).pipe(whileNoBrokerRuns(paths, { command, otherwise: silent, isReader: true }))
        )
    )
  )

// -- inspect -----------------------------------------------------------------------------------------------------------

const inspectFile = ({ storeDirectory }: Paths["Type"]): Effect.Effect<Inspection, Exit> =>
  Effect.map(Effect.mapError(Tools.inspect(storeDirectory), failed), (found) => ({
    directory: storeDirectory,
    file_bytes: found.fileBytes,
    free_bytes: found.freeBytes,
    records: found.records,
    tables: found.tables,
    damaged: found.damaged,
    damaged_copies: found.damagedCopies,
    ...(existsSync(setAsideFile(storeDirectory)) ? { set_aside_file: setAsideFile(storeDirectory) } : {})
  }))

const inspect = Command.make("inspect", { ...whichBroker, json }, (options) =>
  Effect.gen(function* () {
    const found = yield* onlineOr("store inspect", options, ({ store }) => store.inspect, inspectFile)
    yield* Console.log(options.json ? JSON.stringify(found) : describe(found))
  })
).pipe(Command.withDescription("Shows what the store holds, and which damaged copies are kept beside it."))

const describe = (found: Inspection): string =>
  [
    `store      ${found.directory}, ${bytes(found.file_bytes)}, of which ${bytes(found.free_bytes)} are free`,
    `records    ${found.records}`,
    ...Object.entries(found.tables).map(
      ([table, { bytes: size, records }]) => `  ${table.padEnd(20)} ${String(records).padStart(9)}  ${bytes(size)}`
    ),
    ...(Object.keys(found.damaged).length === 0 ? [] : [`damaged    ${counts(found.damaged)}`]),
    ...(found.set_aside_file === undefined ? [] : [`set aside  ${found.set_aside_file}`]),
    ...found.damaged_copies.map((copy) => `kept       ${copy}`)
  ].join("\n")

// -- verify ------------------------------------------------------------------------------------------------------------

const verifyFile = ({ storeDirectory }: Paths["Type"]): Effect.Effect<Verification, Exit> =>
  Effect.map(Effect.mapError(Tools.verify(storeDirectory), failed), ({ damaged, isSound, problems, records }) => ({
    directory: storeDirectory,
    sound: isSound,
    checked: "file",
    records,
    damaged,
    problems
  }))

const verify = Command.make("verify", { ...whichBroker, json }, (options) =>
  Effect.gen(function* () {
    const found = yield* onlineOr("store verify", options, ({ store }) => store.verify, verifyFile)
    const { checked, damaged, directory, problems, records, sound } = found
    const what = checked === "file" ? "every page and record" : "every record, and not the file that a broker has open"
    if (options.json) yield* Console.log(JSON.stringify(found))
    else yield* Console.log(`Checked ${what}: ${plural(records, "record")} of ${directory} are as they were written.`)
    if (sound) return
    const records_ = Object.keys(damaged).length === 0 ? [] : [`Records fail their checksum (${counts(damaged)}).`]
    return yield* new Exit({ code: 1, message: ["The store is not sound.", ...records_, ...problems].join(" ") })
  })
).pipe(Command.withDescription("Checks that everything in the store is as it was written. Ends with 1 when it is not."))

// -- compact, export, salvage ------------------------------------------------------------------------------------------

const compact = Command.make("compact", { ...whichBroker, json }, (options) =>
  Effect.gen(function* () {
    const paths = yield* storeOf(options)
    const { after, before } = yield* Effect.mapError(Tools.compact(paths.storeDirectory), failed).pipe(
      whileNoBrokerRuns(paths, {
        command: "store compact",
        otherwise:
          "A store is made smaller only while no broker has it open: run `runtime-broker stop`, then this again."
      })
    )
    yield* Console.log(
      options.json
        ? JSON.stringify({ directory: paths.storeDirectory, before, after })
        : `The store had ${bytes(before)} and has ${bytes(after)}.`
    )
  })
).pipe(Command.withDescription("Makes the file of the store as small as its records allow. No broker may run."))

const output = Options.text("output").pipe(
  Options.withDescription("A file that is not there yet, for this user only; standard output unless given"),
  Options.optional
)

const exportCommand = Command.make("export", { ...whichBroker, output }, (options) =>
  exportTo(options.output, (sink) =>
    onlineOr(
      "store export",
      options,
      ({ store }) => sink.stream(store.exported),
      ({ storeDirectory }) =>
        Effect.flatMap(
          Effect.mapError(Tools.exportLines(storeDirectory, sink.line), failed),
          ({ damaged, problems }) =>
            damaged === 0 && problems.length === 0
              ? Effect.void
              : new Exit({
                  code: 1,
                  message: [`The store is damaged: ${plural(damaged, "record")} left out.`, ...problems].join(" ")
                })
        )
    )
  )
).pipe(
  Command.withDescription(
    "Writes every record as a line of JSON, with the content of messages and the tokens of endpoints."
  )
)

/** Where it lies or is to lie, without links and dots. */
const placeOf = (directory: string): string => {
  if (existsSync(directory)) return realpathSync(directory)
  const { base, dir } = path.parse(path.resolve(directory))
  return path.join(existsSync(dir) ? realpathSync(dir) : dir, base)
}

/** Salvages while no broker can open these stores: each that is a broker's own stays closed. */
const whileClosed =
  (...directories: ReadonlyArray<string>) =>
  <A, E>(work: Effect.Effect<A, E>): Effect.Effect<A, E | Exit> => {
    const places = directories.map(placeOf)
    const brokers = [...new Set(places.map((place) => path.dirname(place)))]
      .filter(existsSync)
      .map(pathsOf)
      .filter(({ storeDirectory }) => places.includes(storeDirectory))
    return brokers.reduce<Effect.Effect<A, E | Exit>>(
      (locked, paths) =>
        locked.pipe(
          whileNoBrokerRuns(paths, {
            command: "store salvage",
            otherwise: "Run `runtime-broker stop`, then this again."
          })
        ),
      work
    )
  }

const directoryArg = (name: string, about: string) => Args.text({ name }).pipe(Args.withDescription(about))

const salvage = Command.make(
  "salvage",
  {
    from: directoryArg("from", "A store, or a damaged one that was kept; see inspect"),
    to: directoryArg("to", "A directory that is not there yet"),
    json
  },
  ({ from, json, to }) =>
    Effect.gen(function* () {
      const found = yield* Effect.mapError(Tools.salvage(from, to), failed).pipe(whileClosed(from, to))
      const { missing, missingFrom, problems, records, recovered, setAside } = found
      if (json) {
        const shown = {
          from,
          to,
          records,
          recovered,
          set_aside: setAside,
          missing,
          missing_from: missingFrom,
          problems
        }
        return yield* Console.log(JSON.stringify(shown))
      }
      const lost =
        missing === 0
          ? "nothing is missing"
          : `${missing ?? "an unknown number"} missing, perhaps of ${missingFrom.join(", ")}`
      yield* Console.log(
        [
          `${plural(records, "record")} of ${from}, the store's own among them, are now in ${to}; ${lost}.`,
          ...(recovered === 0
            ? []
            : [`${recovered} of them were found outside of the damaged index; some may have been deleted before.`]),
          ...(Object.keys(setAside).length === 0
            ? []
            : [`Records that fail their checksum (${counts(setAside)}) are in ${setAsideFile(to)}.`]),
          ...problems
        ].join("\n")
      )
    })
).pipe(Command.withDescription("Copies what can be read of a damaged store into a new one."))

export const store = Command.make("store").pipe(
  Command.withDescription("Looks into the durable store, checks, shrinks, exports and salvages it."),
  Command.withSubcommands([inspect, verify, compact, exportCommand, salvage])
)
