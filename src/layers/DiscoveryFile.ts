/** Discovery by two files in the identity's directory: `discovery.json` for plugins, `operator.json` for operators. */
import { Effect, Layer, Option, Redacted, Schedule, Schema } from "effect"
import { BrokerConfig } from "../services/BrokerConfig.js"
import { Discovery, DiscoveryError, type Published } from "../services/Discovery.js"
import { EventLog } from "../services/EventLog.js"
import { Paths } from "../services/Paths.js"
import { readSecretFile, removeFile, secretDirectory, writeSecretFile } from "./internal/secretFile.js"
import { supervised } from "./internal/supervised.js"

/** What plugins read. */
export const DiscoveryRecord = Schema.Struct({
  version: Schema.Literal(1),
  pid: Schema.Number,
  startedAt: Schema.String,
  ipcUrl: Schema.String,
  bearerToken: Schema.String
})
export interface DiscoveryRecord extends Schema.Schema.Type<typeof DiscoveryRecord> {}

/** What operators read. */
export const OperatorRecord = Schema.Struct({ version: Schema.Literal(1), operatorToken: Schema.String })
export interface OperatorRecord extends Schema.Schema.Type<typeof OperatorRecord> {}

const parse = <A, I>(schema: Schema.Schema<A, I>) => {
  const decode = Schema.decodeUnknownOption(Schema.parseJson(schema))
  return (text: string | undefined) => (text === undefined ? Option.none<A>() : decode(text))
}
/** None when the text is torn or something else. */
export const parseDiscovery = parse(DiscoveryRecord)
export const parseOperator = parse(OperatorRecord)

interface Records {
  readonly discovery: DiscoveryRecord
  readonly operator: OperatorRecord
}

const isOf = ({ discovery }: Records, found: Option.Option<DiscoveryRecord>): boolean =>
  Option.exists(
    found,
    ({ bearerToken, ipcUrl, pid }) =>
      pid === discovery.pid && ipcUrl === discovery.ipcUrl && bearerToken === discovery.bearerToken
  )

export const layer: Layer.Layer<Discovery, never, Paths | BrokerConfig | EventLog> = Layer.scoped(
  Discovery,
  Effect.gen(function* () {
    const { discoveryCheckMs } = yield* BrokerConfig
    const paths = yield* Paths
    const log = yield* EventLog
    /** Writing, looking after what was written, and removing it exclude each other. */
    const alone = Effect.unsafeMakeSemaphore(1).withPermits(1)
    let ours: Records | undefined

    const textOf = (record: object) => `${JSON.stringify(record, null, 2)}\n`
    const write = (records: Records) =>
      Effect.gen(function* () {
        yield* secretDirectory(paths.directory)
        yield* writeSecretFile(paths.operatorFile, textOf(records.operator))
        yield* writeSecretFile(paths.discoveryFile, textOf(records.discovery))
      })
    const published = Effect.map(readSecretFile(paths.discoveryFile), parseDiscovery)
    const operators = Effect.map(readSecretFile(paths.operatorFile), parseOperator)

    /** One that nobody may use, for its mode or its owner, is as good as none. */
    const orNone = Effect.orElseSucceed(Option.none)
    let hasFailed = false
    const restore = Effect.gen(function* () {
      if (ours === undefined) return
      const found = yield* orNone(published)
      const isThere = Option.isSome(found) && Option.isSome(yield* orNone(operators))
      if (isThere || (Option.isSome(found) && !isOf(ours, found))) return
      yield* write(ours)
      hasFailed = false
      log.unsafeLog("warn", "discovery_restored", { file: paths.discoveryFile })
    }).pipe(
      Effect.catchAll(({ message }) =>
        Effect.sync(() => {
          if (!hasFailed) log.unsafeLog("warn", "discovery_not_restored", { reason: message })
          hasFailed = true
        })
      ),
      alone
    )
    yield* restore.pipe(Effect.schedule(Schedule.spaced(discoveryCheckMs)), supervised("discovery"))

    return {
      publish: ({ bearerToken, operatorToken, url }: Published) =>
        Effect.gen(function* () {
          const records: Records = {
            discovery: {
              version: 1,
              pid: process.pid,
              startedAt: new Date().toISOString(),
              ipcUrl: url,
              bearerToken: Redacted.value(bearerToken)
            },
            operator: { version: 1, operatorToken: Redacted.value(operatorToken) }
          }
          yield* write(records)
          ours = records
          log.unsafeLog("info", "discovery_written", { file: paths.discoveryFile, url })
        }).pipe(
          Effect.mapError(({ message }) => new DiscoveryError({ message })),
          alone,
          // A broker that is to leave meanwhile withdraws all of it.
          Effect.uninterruptible
        ),

      withdraw: Effect.gen(function* () {
        const records = ours
        ours = undefined
        if (records === undefined || !isOf(records, yield* published)) return
        yield* removeFile(paths.discoveryFile)
        yield* removeFile(paths.operatorFile)
      }).pipe(
        Effect.catchAll(({ message }) =>
          Effect.sync(() => log.unsafeLog("warn", "discovery_not_removed", { reason: message }))
        ),
        alone
      )
    }
  })
)
