/**
 * The command surface: everything the service can do, told over HTTP in JSON. No token; this machine only, no web pages.
 *
 *     GET    /dev                          urls, accounts, faults, the names of this list
 *     GET    /dev/accounts/{account}       what the cloud knows of the account: connections, frames, mail, endpoints, inbox
 *     GET    /dev/happened                 what happened; ?account= &kind= &call= &event= &since=
 *     POST   /dev/messages                 {account, content, endpoint_id?, from?, content_type?, metadata?, message_id?}
 *     POST   /dev/skip                     {account, seq}: the owner dismisses a waiting message
 *     POST   /dev/announce                 {account}: DELIVERY_CURSOR
 *     POST   /dev/frame                    {account, frame}: any frame, or any text, to the runtime
 *     POST   /dev/modes                    {account, form?, backlog?, second?}
 *     POST   /dev/control                  {account, event: {type, …}}: dispatch_undispatched, spawn_request, force_unregister, any
 *     POST   /dev/control/raw              {account, chunks: [text, …]}: bytes on the stream
 *     POST   /dev/retire, /dev/forget      {endpoint_id}
 *     POST   /dev/cut                      {account?, code?, reason?, subscriptions?}
 *     POST   /dev/replace                  {account}
 *     GET    /dev/faults                   those there are
 *     POST   /dev/faults                   {at, does, account?, times?, status?, code?, reason?, retry_after?, ms?, text?}
 *     DELETE /dev/faults, /dev/faults/{id} clears all, or one
 *
 * Answers are 200 with JSON, 400 naming what is wrong in a command, 404 for a path that is none of these.
 */
import { Effect, ParseResult, Schema } from "effect"
import type { DevCloud, DevCloudError } from "../../services/DevCloud.js"
import {
  AccountCommand,
  ControlCommand,
  CutCommand,
  EndpointCommand,
  FrameCommand,
  HappenedQuery,
  InjectMessage,
  ModesCommand,
  RawControlCommand,
  SkipCommand
} from "../../services/devCloud/Commands.js"
import { Fault, faultTable } from "../../services/devCloud/Faults.js"
import { type Answer, pathParts, refusal } from "./http.js"

type Outcome = Effect.Effect<unknown, DevCloudError | ParseResult.ParseError>
type Command = (json: unknown) => Outcome

/** A command whose body has this shape; one with other fields is refused. */
const command = <A, I>(
  schema: Schema.Schema<A, I>,
  run: (command: A) => Effect.Effect<unknown, DevCloudError>
): Command => {
  const decode = Schema.decodeUnknown(schema, { onExcessProperty: "error" })
  return (json) => Effect.flatMap(decode(json), run)
}

export type Commands = (method: string, url: URL, json: unknown) => Effect.Effect<Answer>

export const makeCommands = (cloud: DevCloud["Type"]): Commands => {
  const counted = (effect: Effect.Effect<number, DevCloudError>) => Effect.map(effect, (count) => ({ count }))
  const routes: { readonly [route: string]: Command } = {
    "GET /dev": () =>
      Effect.map(cloud.faults, (faults) => ({
        url: cloud.url,
        accounts: cloud.accounts,
        faults,
        fault_table: faultTable,
        commands: Object.keys(routes)
      })),
    "GET /dev/happened": command(HappenedQuery, (filter) =>
      Effect.map(cloud.happened(filter), (happened) => ({ happened }))
    ),
    "POST /dev/messages": command(InjectMessage, cloud.inject),
    "POST /dev/skip": command(SkipCommand, cloud.skip),
    "POST /dev/announce": command(AccountCommand, ({ account }) => cloud.announce(account)),
    "POST /dev/frame": command(FrameCommand, cloud.frame),
    "POST /dev/modes": command(ModesCommand, cloud.configure),
    "POST /dev/control": command(ControlCommand, cloud.control),
    "POST /dev/control/raw": command(RawControlCommand, cloud.rawControl),
    "POST /dev/retire": command(EndpointCommand, ({ endpoint_id }) => cloud.retire(endpoint_id)),
    "POST /dev/forget": command(EndpointCommand, ({ endpoint_id }) => cloud.forget(endpoint_id)),
    "POST /dev/cut": command(CutCommand, (cut) => counted(cloud.cut(cut))),
    "POST /dev/replace": command(AccountCommand, ({ account }) => counted(cloud.replace(account))),
    "GET /dev/faults": () => Effect.map(cloud.faults, (faults) => ({ faults })),
    "POST /dev/faults": command(Fault, cloud.fault),
    "DELETE /dev/faults": () => counted(cloud.clear())
  }

  /** Routes with a name in their path. */
  const named = (method: string, parts: ReadonlyArray<string>): Outcome | undefined => {
    const [, area, name = ""] = parts
    if (parts.length !== 3) return undefined
    if (method === "GET" && area === "accounts") return cloud.view(name)
    return method === "DELETE" && area === "faults" ? counted(cloud.clear(Number(name))) : undefined
  }

  return (method, url, json) =>
    Effect.suspend(() => {
      const input = method === "GET" ? Object.fromEntries(url.searchParams) : json
      const route = `${method} ${url.pathname}`
      const outcome = Object.hasOwn(routes, route)
        ? routes[route]!(input)
        : named(method, pathParts(url.pathname) ?? [])
      if (outcome === undefined) {
        return Effect.succeed(refusal(404, "not_found", `There is no ${route}. GET /dev lists what there is.`))
      }
      return outcome.pipe(
        Effect.match({
          onSuccess: (body): Answer => ({ status: 200, body: body ?? {} }),
          onFailure: (error) =>
            refusal(
              400,
              "bad_request",
              error._tag === "ParseError" ? ParseResult.TreeFormatter.formatErrorSync(error) : error.message
            )
        })
      )
    })
}
