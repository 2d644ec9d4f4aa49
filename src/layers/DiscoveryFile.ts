/** Discovery by two files in the identity's directory: `discovery.json` for plugins, `operator.json` for operators. */
import { Effect, Layer, Option, Redacted, Schema } from "effect"
import { Discovery, DiscoveryError, type Published } from "../services/Discovery.js"
import { EventLog } from "../services/EventLog.js"
import { Paths } from "../services/Paths.js"
import { readSecretFile, removeFile, secretDirectory, writeSecretFile } from "./internal/secretFile.js"

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

const parse = <A, I>(schema: Schema.Schema<A, I>) => {
  const decode = Schema.decodeUnknownOption(Schema.parseJson(schema))
  return (text: string | undefined) => (text === undefined ? Option.none<A>() : decode(text))
}
/** None when the text is torn or something else. */
export const parseDiscovery = parse(DiscoveryRecord)
export const parseOperator = parse(OperatorRecord)

export const layer: Layer.Layer<Discovery, never, Paths | EventLog> = Layer.effect(
  Discovery,
  Effect.gen(function* () {
    const paths = yield* Paths
    const log = yield* EventLog
    let ours: DiscoveryRecord | undefined

    return {
      publish: ({ bearerToken, operatorToken, url }: Published) =>
        Effect.gen(function* () {
          const record: DiscoveryRecord = {
            version: 1,
            pid: process.pid,
            startedAt: new Date().toISOString(),
            ipcUrl: url,
            bearerToken: Redacted.value(bearerToken)
          }
          yield* secretDirectory(paths.directory)
          yield* writeSecretFile(
            paths.operatorFile,
            `${JSON.stringify({ version: 1, operatorToken: Redacted.value(operatorToken) }, null, 2)}\n`
          )
          yield* writeSecretFile(paths.discoveryFile, `${JSON.stringify(record, null, 2)}\n`)
          ours = record
          log.unsafeLog("info", "discovery_written", { file: paths.discoveryFile, url })
        }).pipe(
          Effect.mapError(({ message }) => new DiscoveryError({ message })),
          // A broker that is to leave meanwhile withdraws all of it.
          Effect.uninterruptible
        ),

      withdraw: Effect.gen(function* () {
        if (ours === undefined) return
        const found = Option.getOrUndefined(parseDiscovery(yield* readSecretFile(paths.discoveryFile)))
        const isOurs = found?.pid === ours.pid && found.ipcUrl === ours.ipcUrl && found.bearerToken === ours.bearerToken
        ours = undefined
        if (!isOurs) return
        yield* removeFile(paths.discoveryFile)
        yield* removeFile(paths.operatorFile)
      }).pipe(
        Effect.catchAll(({ message }) =>
          Effect.sync(() => log.unsafeLog("warn", "discovery_not_removed", { reason: message }))
        )
      )
    }
  })
)
