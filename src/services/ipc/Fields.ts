/**
 * The fields and headers that several routes share, and the code each is refused with. The description of a field's schema
 * completes the refusal "must be …".
 */
import { Schema } from "effect"
import { optional } from "../model/Json.js"

export const NonEmpty = Schema.NonEmptyString

/** A text of at most so many characters. What a plugin says of itself is kept, and more of it than anybody needs is refused. */
export const textUpTo = (most: number) =>
  Schema.String.pipe(Schema.maxLength(most)).annotations({ description: `a string of at most ${most} characters` })

/** `textUpTo`, of one character at least. */
export const nonEmptyUpTo = (most: number) =>
  Schema.String.pipe(Schema.minLength(1), Schema.maxLength(most)).annotations({
    description: `a string of 1 to ${most} characters`
  })

/** Names, references, times and the like. */
export const longestName = 1_024
export const Name = textUpTo(longestName)

/** Capabilities a session announces. */
export const mostCapabilities = 64
const CapabilityName = textUpTo(256)
export const CapabilityNames = Schema.Array(CapabilityName)
  .annotations({ description: "a list of strings" })
  .pipe(Schema.maxItems(mostCapabilities))
  .annotations({ description: `a list of at most ${mostCapabilities} strings` })

/** A process id: a whole number above 0. */
export const PluginPid = Schema.Number.pipe(
  Schema.filter((value) => Number.isSafeInteger(value) && value > 0),
  Schema.annotations({ identifier: "PluginPid", jsonSchema: { type: "integer", minimum: 1 } })
)

/** A process id as header text; of several the first counts. */
const PluginPidHeader = Schema.String.pipe(
  Schema.filter((value) => pidFromHeader(value) !== undefined),
  Schema.annotations({ identifier: "PluginPidHeader", jsonSchema: { type: "string", pattern: "^[1-9][0-9]*$" } })
)

/** The process id a header names, or `undefined` when it names none. */
export const pidFromHeader = (value: string): number | undefined => {
  const first = value.split(",")[0]!.trim()
  const pid = /^[1-9][0-9]{0,15}$/.test(first) ? Number(first) : Number.NaN
  return Number.isSafeInteger(pid) ? pid : undefined
}

/** Who asks: the plugin's process, and the proof that it owns the endpoint. */
export const CallerHeaders = Schema.Struct({
  "x-plugin-pid": optional(PluginPidHeader),
  "x-endpoint-owner-token": optional(Schema.String)
})
export type CallerHeaders = typeof CallerHeaders.Type

export const Metadata = Schema.Record({ key: Schema.String, value: Schema.Unknown }).annotations({
  description: "an object"
})

export const Ok = Schema.Struct({ ok: Schema.Literal(true) })

/** Fields whose refusal has a code of its own, whichever route they come on. All others are `bad_request`. */
export const refusedAs: { readonly [field: string]: string | undefined } = {
  plugin_pid: "plugin_pid_invalid",
  "x-plugin-pid": "plugin_pid_invalid",
  task_hint: "task_hint_invalid",
  undispatched_id: "dispatch_body_invalid",
  target_endpoint_id: "dispatch_body_invalid"
}
