/** Sessions as endpoints: register, come back, stay, say what they do, leave. */
import { HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "@effect/platform"
import { Schema } from "effect"
import * as Errors from "../model/Errors.js"
import { absentable, optional } from "../model/Json.js"
import { Authorized } from "./Auth.js"
import { CallerHeaders, CapabilityNames, longestName, Name, NonEmpty, nonEmptyUpTo, Ok, PluginPid } from "./Fields.js"

const { onWire } = Errors

export const RegisterRequest = Schema.Struct({
  agent_id: absentable(Name),
  /** Must have an open stream. */
  plugin_pid: PluginPid,
  kind: nonEmptyUpTo(longestName),
  /** Private: not part of the public label. */
  session_name: absentable(Name),
  /** A path, or `{root, cwd, remote?, branch?}`; each of at most 4096 characters. */
  workspace: optional(Schema.Unknown),
  tracking_ref: absentable(Name),
  /** So many code points of it are kept as the setting `taskHintMax` says. */
  task_hint: absentable(Schema.String),
  /** ISO time. */
  started_at: absentable(Name),
  /** What `MASONS_SPAWN_TOKEN` says, in a session the broker started. */
  spawn_token: absentable(Name),
  /** At most 256 characters. */
  runtime_session_id: absentable(Schema.String),
  runtime_capabilities: absentable(CapabilityNames),
  execution_surface: absentable(Name),
  background_exchange_mode: absentable(Name),
  /** Take this endpoint over, whatever process had it. */
  resume: absentable(
    Schema.Struct({ endpoint_id: NonEmpty, endpoint_owner_token: NonEmpty }).annotations({
      description: 'an object with "endpoint_id" and "endpoint_owner_token"'
    })
  )
})

export const RegisterResponse = Schema.Struct({
  endpoint_id: Schema.String,
  endpoint_owner_token: Schema.String,
  /** An endpoint that was here before, with its mail. */
  resumed: Schema.Boolean,
  session_naming: optional(Schema.Struct({ nickname: Schema.String, owner_edited_name: Schema.NullOr(Schema.String) }))
})

export const ReattachRequest = Schema.Struct({ plugin_pid: PluginPid })

export const ReattachResponse = Schema.Struct({
  restored: Schema.Literal(true),
  /** Messages undelivered at that moment; they are on their way. */
  reconnecting_buffer_count: Schema.Number
})

export const TaskHintRequest = Schema.Struct({ plugin_pid: PluginPid, task_hint: Schema.String })

const id = HttpApiSchema.param("id", Schema.String)

export class EndpointGroup extends HttpApiGroup.make("endpoints")
  .add(
    HttpApiEndpoint.post("register", "/v1/endpoint/register")
      .annotate(
        OpenApi.Description,
        'Registers a session of a process that has an open stream, or gives it back the endpoint it left, with its mail: the earliest of the same process and session that is waiting, or the one named by "resume". Two registrations of a session in use give two endpoints.'
      )
      .setHeaders(CallerHeaders)
      .setPayload(RegisterRequest)
      .addSuccess(RegisterResponse)
      .addError(onWire(Errors.PluginPidInvalid))
      .addError(onWire(Errors.TaskHintInvalid))
      .addError(onWire(Errors.IpcChannelMissing))
      .addError(onWire(Errors.InvalidRuntimeSessionId))
      .addError(onWire(Errors.InvalidRequest))
      .addError(onWire(Errors.PluginPidMismatch))
      .addError(onWire(Errors.EndpointUnknown))
      .addError(onWire(Errors.EndpointOwnerTokenMismatch))
      .addError(onWire(Errors.EndpointNotReconnecting))
      .addError(onWire(Errors.TooManyEndpoints))
      .addError(onWire(Errors.PlatformUnauthorized))
      .addError(Errors.passedOn)
      .addError(onWire(Errors.PlatformUnavailable))
      .addError(onWire(Errors.StoreUnavailable))
  )
  .add(
    HttpApiEndpoint.post("heartbeat")`/v1/endpoint/${id}/heartbeat`
      .annotate(OpenApi.Description, "Passes a heartbeat on to the platform. Not needed: the broker sends its own.")
      .setHeaders(CallerHeaders)
      .addSuccess(Ok)
      .addError(onWire(Errors.PluginPidInvalid))
      .addError(onWire(Errors.EndpointUnknown))
      .addError(onWire(Errors.EndpointPidMismatch))
      .addError(onWire(Errors.EndpointOwnerTokenMismatch))
      .addError(onWire(Errors.PlatformUnauthorized))
      .addError(Errors.passedOn)
      .addError(onWire(Errors.PlatformUnavailable))
  )
  .add(
    HttpApiEndpoint.post("reattach")`/v1/endpoint/${id}/reattach`
      .annotate(
        OpenApi.Description,
        "Binds an endpoint that waits for its plugin to the process's current stream; its mail follows, oldest first."
      )
      .setHeaders(CallerHeaders)
      .setPayload(ReattachRequest)
      .addSuccess(ReattachResponse)
      .addError(onWire(Errors.PluginPidInvalid))
      .addError(onWire(Errors.PluginPidMismatch))
      .addError(onWire(Errors.IpcChannelMissing))
      .addError(onWire(Errors.EndpointUnknown))
      .addError(onWire(Errors.ReattachPidMismatch))
      .addError(onWire(Errors.EndpointOwnerTokenMismatch))
      .addError(onWire(Errors.EndpointNotReconnecting))
      .addError(onWire(Errors.StoreUnavailable))
  )
  .add(
    HttpApiEndpoint.post("taskHint")`/v1/endpoint/${id}/task-hint`
      .annotate(
        OpenApi.Description,
        "Says what the session is doing. So many code points of it are kept as the setting taskHintMax says; 200 unless set."
      )
      .setHeaders(CallerHeaders)
      .setPayload(TaskHintRequest)
      .addSuccess(Ok)
      .addError(onWire(Errors.PluginPidInvalid))
      .addError(onWire(Errors.TaskHintInvalid))
      .addError(onWire(Errors.PluginPidMismatch))
      .addError(onWire(Errors.EndpointUnknown))
      .addError(onWire(Errors.OwnershipMismatch))
      .addError(onWire(Errors.EndpointOwnerTokenMismatch))
      .addError(onWire(Errors.StoreUnavailable))
  )
  .add(
    HttpApiEndpoint.del("unregister")`/v1/endpoint/${id}`
      .annotate(
        OpenApi.Description,
        "Ends the endpoint. Mail it did not take becomes undispatched. An unknown id is fine."
      )
      .setHeaders(CallerHeaders)
      .addSuccess(Ok)
      .addError(onWire(Errors.PluginPidInvalid))
      .addError(onWire(Errors.EndpointPidMismatch))
      .addError(onWire(Errors.EndpointOwnerTokenMismatch))
      .addError(onWire(Errors.StoreUnavailable))
  )
  .middleware(Authorized) {}
