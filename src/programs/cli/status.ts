/** `runtime-broker status`: what the running broker holds. */
import { Command } from "@effect/cli"
import { Console, Effect } from "effect"
import { BrokerClient } from "../../services/BrokerClient.js"
import type { Status } from "../../services/ipc/OperatorGroup.js"
import { clientOf, whichBroker } from "./where.js"
import { bytes, counts, json, plain, plural } from "./words.js"

export const status = Command.make("status", { ...whichBroker, json }, (options) =>
  Effect.gen(function* () {
    const client = yield* BrokerClient
    const current = yield* client.status
    yield* Console.log(options.json ? JSON.stringify(current) : describe(current, Date.now()))
  }).pipe(Effect.provide(clientOf(options)))
).pipe(Command.withDescription("Shows what the running broker holds. Ends with 1 when none is running."))

const ago = (iso: string, now: number) => {
  const seconds = Math.max(0, Math.round((now - Date.parse(iso)) / 1000))
  if (seconds < 120) return `${seconds} s`
  return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`
}

const controlInWords = ({ name, reason, since, state }: Status["control_events"], now: number) =>
  name === "none" ? name : `${name}, ${state} for ${ago(since, now)}${reason ? ` (${reason})` : ""}`

/** The status in words, one fact a line. */
export const describe = (status: Status, now: number): string => {
  const { books, channels, connector, control_events, endpoints, inbox, limits_hit, mailboxes, platform } = status
  const lines = [
    `${status.version}, process ${status.pid}, account "${status.account}", up for ${ago(status.started_at, now)}`,
    `network    ${connector.name}${connector.agent === undefined ? "" : ` as ${connector.agent}`}, link ${connector.state}${connector.reason ? ` (${connector.reason})` : ""}; presence ${status.presence}`,
    `control    ${controlInWords(control_events, now)}`,
    `plugins    ${plural(channels.open, "channel")}, ${plural(endpoints.length, "endpoint")}`,
    ...endpoints.map(
      (endpoint) =>
        `  ${endpoint.state.padEnd(12)} ${endpoint.endpoint_id}  ${endpoint.label}  (process ${endpoint.plugin_pid}, for ${ago(endpoint.state_since, now)})` +
        (endpoint.undelivered > 0 ? `, ${plural(endpoint.undelivered, "message")} undelivered` : "")
    ),
    `mailboxes  ${plural(mailboxes.messages, "message")}, ${bytes(mailboxes.bytes)}`,
    `inbox      ${plural(inbox.messages, "undispatched message")} of ${inbox.limit_messages}`,
    `platform   ${platform.name}, ${plural(platform.waiting, "report")} waiting`,
    `messages   ${books.accepted} accepted = ${books.delivered} delivered + ${books.held} held + ${books.inbox} in the inbox + ${books.expired} expired + ${books.dead} dead`,
    ...(Object.keys(limits_hit).length > 0 ? [`limits     turned away: ${counts(limits_hit)}`] : []),
    ...(status.invalid_expiries > 0
      ? [`expiry     ${plural(status.invalid_expiries, "message")} with a time that cannot be read`]
      : []),
    ...status.warnings.map((warning) => `warning    ${warning}`)
  ]
  return lines.map(plain).join("\n")
}
