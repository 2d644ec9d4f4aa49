/** The documents that are made from the code, by their name under `docs`. */
import { OpenApi } from "@effect/platform"
import { JSONSchema, type Schema } from "effect"
import { environmentName, type SettingName, settings } from "../services/BrokerConfig.js"
import { IpcApi } from "../services/ipc/IpcApi.js"
import * as Frames from "../services/ipc/StreamFrame.js"

export const documents = (): Record<string, string> => ({
  "openapi.json": `${JSON.stringify(OpenApi.fromApi(IpcApi), null, 2)}\n`,
  "settings.md": settingsTable(),
  "stream.md": streamProtocol()
})

const settingsTable = (): string => {
  const rows = Object.entries(settings).map(
    ([name, { about, default: value, unit }]) =>
      `| \`${name}\` | \`${environmentName(name as SettingName)}\` | ${value} | ${unit} | ${about} |`
  )
  return `# Settings

A setting is given in the configuration file (\`<base>/runtime-broker/config.json\`, or the file \`MASONS_BROKER_CONFIG\` names), in
the environment, or on the command line (\`runtime-broker start --set name=value\`); the later of these wins. The base directory is
\`MASONS_BROKER_USER_DATA\`, else the system's place for application data, for example \`~/.local/share/masons-runtime-broker\`.

| Setting | In the environment | Default | Unit | What it does |
|---|---|---|---|---|
${rows.join("\n")}
`
}

interface JsonSchema {
  readonly $defs?: { readonly [name: string]: JsonSchema }
  readonly $ref?: string
  readonly anyOf?: ReadonlyArray<JsonSchema>
  readonly enum?: ReadonlyArray<unknown>
  readonly type?: string
  readonly minLength?: number
  readonly maxLength?: number
  readonly properties?: { readonly [name: string]: JsonSchema }
  readonly required?: ReadonlyArray<string>
}

const inWords = (schema: JsonSchema, defined: { readonly [name: string]: JsonSchema }): string => {
  const { $ref, anyOf, enum: values, maxLength, minLength = 0, type } = schema
  if ($ref !== undefined) return inWords(defined[$ref.slice("#/$defs/".length)]!, defined)
  if (anyOf !== undefined) return anyOf.map((one) => inWords(one, defined)).join(" or ")
  if (values !== undefined) return values.map((value) => `\`${JSON.stringify(value)}\``).join(" or ")
  if (maxLength !== undefined) return `${type} of ${minLength} to ${maxLength} characters`
  return minLength > 0 ? `${type} that is not empty` : (type ?? "any JSON")
}

/** A frame as its schema has it: each field with what it may be. */
const frame = (schema: Schema.Schema.AnyNoContext, about: string): string => {
  const { $defs, properties, required } = JSONSchema.make(schema) as JsonSchema
  const rows = Object.entries(properties!).map(
    ([name, type]) => `| \`${name}\` | ${required!.includes(name) ? "yes" : "no"} | ${inWords(type, $defs ?? {})} |`
  )
  const [event] = properties!.event!.enum!
  return `### \`${event}\`\n\n${about}\n\n| Field | Always | |\n|---|---|---|\n${rows.join("\n")}\n`
}

const streamProtocol = (): string => {
  const { leaving, replaced, tooLarge } = Frames.closeCodes
  return `# The plugin stream

A WebSocket at \`GET /v1/stream\` on the broker's port, over which it pushes messages. A process has one: a newer one of the same
process takes the place of the older one, with its endpoints. Frames are JSON objects in text messages, told apart by \`event\`;
whoever gets one it does not know ignores it.

## Opening it

| Header | |
|---|---|
| \`Authorization\` | \`Bearer <token>\` with the token of \`discovery.json\` |
| \`x-plugin-pid\` | the process id of the plugin; the broker watches the process |
| \`x-masons-ipc-capabilities\` | what the plugin can do, separated by commas; the ones below, others are ignored |

| Capability | |
|---|---|
| \`push_receipt_ack_v1\` | it answers pushes; without it a message counts as delivered when it is written to the socket |
| \`push_nack_v1\` | it may refuse pushes, which then come again |
| \`endpoint_owner_token_v1\` | requests about its endpoints show the token of their registration, \`x-endpoint-owner-token\` |
| \`endpoint_resume_v1\` | its endpoints wait for it also when its process has ended; it comes back with \`resume\` in a registration |
| \`drain_notice_v1\` | it wants to be told when the broker leaves |

A refusal is an ordinary HTTP answer with \`{"error", "message"}\`: 400 \`plugin_pid_invalid\` or \`bad_request\`, 401, 403 (host, origin), 404,
429 \`channel_contended\`, 503 \`too_many_channels\` or \`broker_draining\`. The broker pings; a plugin that is silent for the setting \`silenceMs\` is
taken for gone.

## What the broker sends

${frame(Frames.MessageReceived, "An inbound message, in the order of its endpoint; which endpoint, `metadata.target_endpoint_id` says where the sender named one. With `push_id` the plugin answers `push_ack` when the message is safe, or `push_nack`. With `redelivered` the plugin may have seen it: `sourceMessageId` is the same.")}
${frame(Frames.PresenceChanged, "The broker's presence on the network changed.")}
${frame(Frames.SendResult, "The answer to a `send`: status and body as `POST /v1/send` would have answered. Answers come in any order.")}
${frame(Frames.BrokerDraining, "The broker leaves and closes the stream in a moment. What is not acknowledged is pushed again by the next broker. For channels that announced `drain_notice_v1`.")}
## What a plugin sends

${frame(Frames.PushAck, "The plugin has taken the message.")}
${frame(Frames.PushNack, "The plugin could not take the message: it is pushed again after a second, then ever later; after the setting `deliveryLimit` it is a dead letter.")}
${frame(Frames.SendFrame, "Sends a message by the rules of `POST /v1/send`. Messages of one stream leave in the order of their frames. While the settings `streamSends` or `streamSendBytes` are reached, the stream is not read.")}
## How it is closed

| Code | Reason | |
|---|---|---|
| ${replaced.code} | \`${replaced.reason}\` | a newer stream of the same process is open |
| ${leaving.code} | \`${leaving.reason}\` | come again when the next broker is there |
| ${tooLarge.code} | | a frame was larger than the setting \`frameBytes\` |
`
}
