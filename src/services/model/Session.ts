/** What a plugin says of its session when it registers, and what the broker makes of it. */
import { Either, Schema } from "effect"
import { InvalidRequest, InvalidRuntimeSessionId } from "./Errors.js"
import { optional } from "./Json.js"
import { firstCodePoints } from "./Message.js"

/** Where a session works. `root` and `cwd` are not empty. */
export const Workspace = Schema.Struct({
  root: Schema.String,
  cwd: Schema.String,
  remote: optional(Schema.String),
  branch: optional(Schema.String)
})
export interface Workspace extends Schema.Schema.Type<typeof Workspace> {}

/** A session as the broker keeps it. Absent means the plugin did not say. */
export const Session = Schema.Struct({
  agentId: optional(Schema.String),
  kind: Schema.String,
  sessionName: optional(Schema.String),
  workspace: optional(Workspace),
  trackingRef: optional(Schema.String),
  taskHint: optional(Schema.String),
  /** ISO time. */
  startedAt: Schema.String,
  runtimeSessionId: optional(Schema.String),
  runtimeCapabilities: optional(Schema.Array(Schema.String)),
  executionSurface: optional(Schema.String),
  backgroundExchangeMode: optional(Schema.String)
})
export interface Session extends Schema.Schema.Type<typeof Session> {}

/** The body of a registration, after its schema. `null` counts as absent. */
export interface SessionClaims {
  readonly agent_id?: string | null | undefined
  readonly kind: string
  readonly session_name?: string | null | undefined
  readonly workspace?: unknown
  readonly tracking_ref?: string | null | undefined
  readonly task_hint?: string | null | undefined
  readonly started_at?: string | null | undefined
  readonly runtime_session_id?: string | null | undefined
  readonly runtime_capabilities?: ReadonlyArray<string> | null | undefined
  readonly execution_surface?: string | null | undefined
  readonly background_exchange_mode?: string | null | undefined
}

/** Capabilities a plugin cannot give itself: the broker adds them. */
const brokerCapabilities: ReadonlySet<string> = new Set(["remote_spawn_v1"])

export const sessionFrom = (
  claims: SessionClaims,
  rules: { readonly now: string; readonly taskHintMax: number }
): Either.Either<Session, InvalidRequest | InvalidRuntimeSessionId> =>
  Either.gen(function* () {
    const runtimeSessionId = yield* cleanRuntimeSessionId(claims.runtime_session_id)
    const workspace = yield* cleanWorkspace(claims.workspace)
    return present({
      agentId: claims.agent_id || undefined,
      kind: claims.kind,
      sessionName: claims.session_name ?? undefined,
      workspace,
      trackingRef: claims.tracking_ref ?? undefined,
      taskHint: claims.task_hint == null ? undefined : firstCodePoints(claims.task_hint, rules.taskHintMax),
      startedAt: claims.started_at ?? rules.now,
      runtimeSessionId,
      runtimeCapabilities: claims.runtime_capabilities?.filter((name) => !brokerCapabilities.has(name)),
      executionSurface: claims.execution_surface ?? undefined,
      backgroundExchangeMode: claims.background_exchange_mode ?? undefined
    }) as unknown as Session
  })

const present = <A extends object>(values: A) =>
  Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined))

/** Trimmed; empty counts as absent; at most 256 characters; `__masons_` is the network's own prefix. */
const cleanRuntimeSessionId = (
  value: string | null | undefined
): Either.Either<string | undefined, InvalidRuntimeSessionId> => {
  const id = value?.trim() ?? ""
  if (id === "") return Either.right(undefined)
  if (id.length > 256) {
    return Either.left(
      new InvalidRuntimeSessionId({
        message: `"runtime_session_id" has ${id.length} characters; it must have at most 256.`
      })
    )
  }
  return id.startsWith("__masons_")
    ? Either.left(
        new InvalidRuntimeSessionId({
          message: `"runtime_session_id" is "${id}"; it must not start with "__masons_".`
        })
      )
    : Either.right(id)
}

/** Of a workspace: of each of its texts. */
const longestPath = 4_096

/** A path, or `{root, cwd, remote?, branch?}`; strings trimmed, empty `remote` and `branch` dropped. */
const cleanWorkspace = (value: unknown): Either.Either<Workspace | undefined, InvalidRequest> => {
  if (value === undefined || value === null) return Either.right(undefined)
  const refused = (message: string) => Either.left(new InvalidRequest({ message }))
  const tooLong = (field: string, { length }: string) =>
    refused(`"${field}" has ${length} characters; it must have at most ${longestPath}.`)
  if (typeof value === "string") {
    const path = value.trim()
    if (path === "") return refused('"workspace" is empty; leave it out or give a path.')
    return path.length > longestPath ? tooLong("workspace", path) : Either.right({ root: path, cwd: path })
  }
  if (typeof value !== "object" || Array.isArray(value)) {
    return refused('"workspace" must be a path or an object with "root" and "cwd".')
  }
  const fields = value as Record<string, unknown>
  for (const key of ["root", "cwd"]) {
    if (typeof fields[key] !== "string" || fields[key].trim() === "") {
      return refused(`"workspace.${key}" must be a string that is not empty.`)
    }
  }
  for (const key of ["remote", "branch"]) {
    if (fields[key] != null && typeof fields[key] !== "string") return refused(`"workspace.${key}" must be a string.`)
  }
  const trimmed = (key: string) => (fields[key] as string | null | undefined)?.trim() || undefined
  for (const key of ["root", "cwd", "remote", "branch"]) {
    const text = trimmed(key) ?? ""
    if (text.length > longestPath) return tooLong(`workspace.${key}`, text)
  }
  return Either.right(
    present({
      root: trimmed("root"),
      cwd: trimmed("cwd"),
      remote: trimmed("remote"),
      branch: trimmed("branch")
    }) as unknown as Workspace
  )
}

/** What others see as its name. Says nothing of the private session name. */
export const displayLabel = (session: Session, pluginPid: number): string => {
  const root = session.workspace?.root
  const folder =
    root
      ?.split(/[\\/]/)
      .filter((part) => part !== "")
      .at(-1) ?? root
  const parts = [session.kind, folder, session.trackingRef].map((part) => part?.trim()).filter(Boolean)
  return parts.length > 0 ? parts.join(" · ") : `${session.kind}-${String(pluginPid).slice(-4)}`
}

/** True when two registrations come from the same session. */
export const isSameSession = (a: Session, b: Session): boolean =>
  a.agentId === b.agentId &&
  a.kind === b.kind &&
  a.sessionName === b.sessionName &&
  a.trackingRef === b.trackingRef &&
  a.runtimeSessionId === b.runtimeSessionId &&
  a.workspace?.root === b.workspace?.root &&
  a.workspace?.cwd === b.workspace?.cwd &&
  a.workspace?.remote === b.workspace?.remote &&
  a.workspace?.branch === b.workspace?.branch
