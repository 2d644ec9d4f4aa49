/** The platform API, as far as a broker calls it. Every call is in the journal before it is answered. */
import type { IncomingMessage, ServerResponse } from "node:http"
import { ParseResult, Schema } from "effect"
import type { Account } from "../../services/devCloud/Account.js"
import { DisplayMetadataBody, RegisterBody, StateBody } from "../../services/devCloud/Endpoints.js"
import type { ActiveFault, PlatformCallName } from "../../services/devCloud/Faults.js"
import type { PlatformCalled } from "../../services/devCloud/Journal.js"
import { Outflow } from "../../services/devCloud/Outflow.js"
import { optional } from "../../services/model/Json.js"
import { NetworkPresenceChanged, UndispatchedChanged } from "../../services/model/PlatformReport.js"
import type { Subscriptions } from "./events.js"
import { type Answer, pathParts, readJson, refusal, reply } from "./http.js"
import type { World } from "./world.js"

interface Call {
  readonly account: Account
  /** The endpoint the path names. */
  readonly endpointId: string
  readonly query: URLSearchParams
  readonly body: unknown
}

type Handler = (call: Call) => Answer

const done: Answer = { status: 204 }
const noEndpoint = ({ endpointId }: Call): Answer =>
  refusal(404, "endpoint_unknown", `There is no endpoint "${endpointId}" of this account.`)

const AckBody = Schema.Struct({
  idempotency_key: Schema.NonEmptyString,
  status: Schema.Literal("received", "applied", "failed"),
  detail: optional(Schema.String)
})

/** Handles a body of this shape; any other is refused, naming the field. */
const withBody = <A, I>(schema: Schema.Schema<A, I>, handle: (call: Call, body: A) => Answer): Handler => {
  const decode = Schema.decodeUnknownEither(schema)
  return (call) => {
    const body = decode(call.body)
    if (body._tag === "Right") return handle(call, body.right)
    const [issue] = ParseResult.ArrayFormatter.formatErrorSync(body.left)
    return refusal(422, "invalid_request", `${issue?.path.join(".") || "body"}: ${issue?.message}`)
  }
}

const asSelf =
  (handle: Handler): Handler =>
  (call) => {
    const as = call.query.get("as")
    return as === null || as === call.account.subjectId
      ? handle(call)
      : refusal(403, "forbidden", `"${as}" is not the account of this token.`)
  }

const handlersOf = ({ now }: World): { readonly [call in Exclude<PlatformCallName, "control_events">]: Handler } => ({
  whoami: ({ account }) => ({
    status: 200,
    body: { subjectId: account.subjectId, subjectType: "agent-runtime", ownerUserId: "user_developer" }
  }),
  register_endpoint: withBody(RegisterBody, ({ account }, body) => ({
    status: 201,
    body: account.endpoints.registered(account.endpoints.register(body, now()), account.subjectId)
  })),
  heartbeat: (call) =>
    call.account.endpoints.heartbeat(call.endpointId, now()) ? { status: 200, body: {} } : noEndpoint(call),
  state: withBody(StateBody, (call, body) =>
    call.account.endpoints.setState(call.endpointId, body, now()) ? done : noEndpoint(call)
  ),
  display_metadata: withBody(DisplayMetadataBody, (call, body) =>
    call.account.endpoints.setDisplay(call.endpointId, body) ? done : noEndpoint(call)
  ),
  unregister: (call) =>
    call.account.endpoints.retire(call.endpointId, now(), "unregistered") ? done : noEndpoint(call),
  owned_view: asSelf((call) => {
    const { account, endpointId } = call
    const record = account.endpoints.get(endpointId)
    return record === undefined
      ? noEndpoint(call)
      : { status: 200, body: account.endpoints.ownedView(record, account.subjectId) }
  }),
  owned_list: asSelf(({ account }) => {
    const items = account.endpoints.list().map((record) => account.endpoints.ownedView(record, account.subjectId))
    return { status: 200, body: { total: items.length, items } }
  }),
  undispatched_changed: withBody(UndispatchedChanged, ({ account }, event) => {
    account.changed(event)
    return done
  }),
  presence_changed: withBody(NetworkPresenceChanged, ({ account }, { state }) => {
    account.presence = state
    return done
  }),
  control_ack: withBody(AckBody, ({ account }, { idempotency_key }) => {
    account.control.acknowledge(idempotency_key)
    return done
  })
})

/** The call a request means; part 2 of a path, where there is one, is the endpoint's id. */
const callOf = (method: string, parts: ReadonlyArray<string>): PlatformCallName | undefined => {
  const [, area, name, action] = parts
  switch (`${method} ${area}${area === "runtime" ? `/${name}` : ""} ${parts.length}`) {
    case "GET whoami 2":
      return "whoami"
    case "GET runtime-endpoints 2":
      return "owned_list"
    case "POST runtime-endpoints 2":
      return "register_endpoint"
    case "GET runtime-endpoints 3":
      return "owned_view"
    case "DELETE runtime-endpoints 3":
      return "unregister"
    case "POST runtime-endpoints 4":
      if (action === "heartbeat" || action === "state") return action
      return action === "display-metadata" ? "display_metadata" : undefined
    case "POST runtime/undispatched-changed 3":
      return "undispatched_changed"
    case "POST runtime/network-presence-changed 3":
      return "presence_changed"
    case "POST runtime/control-ack 3":
      return "control_ack"
    case "GET runtime/control-events 3":
      return "control_events"
    default:
      return undefined
  }
}

export type Platform = (request: IncomingMessage, response: ServerResponse, url: URL) => Promise<void>

export const makePlatform = (world: World, subscriptions: Subscriptions): Platform => {
  const { board, journal, later } = world
  const handlers = handlersOf(world)

  const answerTo = (call: PlatformCalled, response: ServerResponse) => {
    const flow = new Outflow<Answer>(
      board,
      {
        write: (answer) => {
          reply(response, answer)
          journal.answered(call, response.statusCode)
        },
        garble: (text = "<html>no JSON</html>") => {
          response.writeHead(200, { "content-type": "application/json" }).end(text)
        },
        cut: () => response.destroy()
      },
      later
    )
    response.on("close", () => flow.close())
    return (answer: Answer, fault?: ActiveFault) => flow.pushUnder(answer, fault)
  }

  return async (request, response, url) => {
    const method = request.method ?? "GET"
    const parts = pathParts(url.pathname)
    const account = accountOf(world, request)
    const name = parts === undefined ? undefined : callOf(method, parts)
    const read = await readJson(request)
    const call: PlatformCalled = {
      kind: "platform",
      call: name ?? "unknown",
      method,
      path: url.pathname,
      query: Object.fromEntries(url.searchParams),
      body: "json" in read ? read.json : null,
      status: null
    }
    journal.add(account?.name ?? null, call)
    const answer = answerTo(call, response)
    if (name === undefined) return answer(refusal(404, "not_found", `There is no ${method} ${url.pathname}.`))

    const fault = board.take([name, "platform"], account?.name)
    if (fault?.does === "refuse") {
      const {
        code = "refused",
        reason = "The development cloud was told to refuse.",
        retry_after,
        status = 503
      } = fault
      const headers = retry_after === undefined ? {} : { "retry-after": retry_after }
      return answer({ ...refusal(status, code, reason), headers })
    }
    if (fault?.does === "cut") return void response.destroy()
    if (account === undefined) return answer(refusal(401, "unauthorized", "The token belongs to no account."), fault)
    if (!("json" in read)) return answer(read, fault)
    if (name !== "control_events") {
      const endpointId = parts?.[2] ?? ""
      return answer(handlers[name]({ account, endpointId, query: url.searchParams, body: read.json }), fault)
    }
    if (url.searchParams.get("agent_id") !== account.subjectId) {
      return answer(refusal(403, "forbidden", `"agent_id" must be "${account.subjectId}".`), fault)
    }
    const lastEventId = request.headers["last-event-id"]
    subscriptions.open(account, response, {
      lastEventId: typeof lastEventId === "string" ? lastEventId : undefined,
      fault,
      onOpened: () => journal.answered(call, 200)
    })
  }
}

const accountOf = (world: World, request: IncomingMessage): Account | undefined => {
  const header = request.headers.authorization ?? ""
  return header.startsWith("Bearer ") ? world.accountOfToken(header.slice("Bearer ".length)) : undefined
}
