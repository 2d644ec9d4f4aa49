/** The service's methods, over the servers. */
import { randomUUID } from "node:crypto"
import { Effect } from "effect"
import { type DevAccount, type DevCloud, DevCloudError } from "../../services/DevCloud.js"
import type { Account } from "../../services/devCloud/Account.js"
import type { Connection } from "./connection.js"
import type { Subscriptions } from "./events.js"
import { type Gateway, replacedReason } from "./gateway.js"
import type { World } from "./world.js"

const outsidePeer = "mstp://outside.example/peer"

export const makeService = (
  world: World,
  gateway: Gateway,
  subscriptions: Subscriptions,
  address: { readonly url: string; readonly accounts: ReadonlyArray<DevAccount> }
): DevCloud["Type"] => {
  const { board, journal, now } = world

  const withAccount = <A>(name: string, f: (account: Account) => A): Effect.Effect<A, DevCloudError> =>
    Effect.suspend(() => {
      const account = world.accounts.get(name)
      return account === undefined
        ? new DevCloudError({
            message: `There is no account "${name}"; there is ${[...world.accounts.keys()].join(", ")}.`
          })
        : Effect.sync(() => f(account))
    })

  const withRuntime = (name: string, f: (runtime: Connection) => void): Effect.Effect<void, DevCloudError> =>
    Effect.flatMap(
      withAccount(name, (account) => gateway.runtimeOf(account)),
      (runtime) =>
        runtime === undefined
          ? new DevCloudError({ message: `No runtime of account "${name}" is registered.` })
          : Effect.sync(() => f(runtime))
    )

  const withEndpoint = (id: string, f: (account: Account) => unknown): Effect.Effect<void, DevCloudError> =>
    Effect.suspend(() => {
      const account = [...world.accounts.values()].find(({ endpoints }) => endpoints.get(id) !== undefined)
      return account === undefined
        ? new DevCloudError({ message: `There is no endpoint "${id}".` })
        : Effect.sync(() => void f(account))
    })

  const cut = (
    name: string | undefined,
    end: (connection: Connection) => void
  ): Effect.Effect<number, DevCloudError> => {
    const count = (account: Account | undefined) => {
      const ending = gateway.connections().filter((one) => account === undefined || one.account === account)
      for (const connection of ending) end(connection)
      return ending.length
    }
    return name === undefined ? Effect.sync(() => count(undefined)) : withAccount(name, count)
  }

  const viewOf = (account: Account) => ({
    account: account.name,
    address: account.address,
    subject_id: account.subjectId,
    modes: account.modes,
    connections: gateway
      .connections()
      .filter((connection) => connection.account === account)
      .map(({ id, isReady, isStalled, openedAt, scope = null }) => ({
        connection: id,
        opened_at: openedAt,
        registered: isReady,
        stalled: isStalled,
        runtime_session_id: scope
      })),
    control_subscribers: subscriptions.count(account),
    frames: { in: Object.fromEntries(account.frames.in), out: Object.fromEntries(account.frames.out) },
    mail: {
      last_seq: account.mailbox.last,
      acknowledged_seq: account.mailbox.acknowledged,
      waiting: account.mailbox.waiting
    },
    presence: account.presence ?? null,
    undispatched: [...account.undispatched.values()],
    endpoints: account.endpoints.list().map(({ body, endpointId, leaseUntil, reason, retiredAt, state }) => ({
      endpoint_id: endpointId,
      display_label: body.display_label,
      state,
      reason,
      lease_until: leaseUntil,
      retired: retiredAt !== undefined
    }))
  })

  return {
    ...address,
    view: (name) => withAccount(name, viewOf),
    happened: (filter = {}) => Effect.sync(() => journal.list(filter)),
    awaitHappening: (isIt) =>
      Effect.async((resume) => {
        const past = journal.list({}).find(isIt)
        if (past !== undefined) return resume(Effect.succeed(past))
        const unwatch = journal.watch((happening) => {
          if (!isIt(happening)) return
          unwatch()
          resume(Effect.succeed(happening))
        })
        return Effect.sync(unwatch)
      }),

    inject: ({
      account: name,
      content,
      content_type = "text",
      endpoint_id,
      from = outsidePeer,
      message_id,
      metadata = {}
    }) =>
      withAccount(name, (account) => {
        const messageId = message_id ?? randomUUID()
        const seq = gateway.accept(account, {
          messageId,
          from,
          content,
          contentType: content_type,
          metadata: endpoint_id === undefined ? metadata : { ...metadata, target_endpoint_id: endpoint_id },
          sentAt: new Date(now()).toISOString()
        })
        return { message_id: messageId, seq }
      }),
    skip: ({ account: name, seq }) =>
      Effect.flatMap(
        withAccount(name, (account) => {
          const mail = account.mailbox.skip(seq)
          if (mail !== undefined) gateway.runtimeOf(account)?.deliveries.push(mail, "deliver", account.name)
          return mail !== undefined
        }),
        (isDone) =>
          isDone
            ? Effect.void
            : new DevCloudError({ message: `No message of account "${name}" waits with number ${seq}.` })
      ),
    announce: (name) => withRuntime(name, (runtime) => runtime.announce()),
    frame: ({ account, frame }) =>
      withRuntime(account, (runtime) => runtime.transmit(typeof frame === "string" ? frame : JSON.stringify(frame))),
    configure: ({ account: name, ...modes }) =>
      withAccount(name, (account) => {
        account.modes = { ...account.modes, ...modes }
        return account.modes
      }),

    control: ({ account: name, event: { idempotency_key, ...fields } }) =>
      withAccount(name, (account) => {
        const key = typeof idempotency_key === "string" ? idempotency_key : `cmd-${randomUUID()}`
        const filled = { version: 1, idempotency_key, emitted_at: now(), ...fields }
        if (idempotency_key === undefined) filled.idempotency_key = key
        const event = Object.fromEntries(Object.entries(filled).filter(([, value]) => value !== null))
        const entry = account.control.add(key, event)
        const sent = {
          kind: "control" as const,
          id: String(entry.id),
          event,
          subscribers: subscriptions.count(account)
        }
        journal.add(account.name, sent)
        subscriptions.send(account, entry)
        return { id: String(entry.id), idempotency_key: key }
      }),
    rawControl: ({ account: name, chunks }) => withAccount(name, (account) => subscriptions.write(account, chunks)),

    retire: (id) => withEndpoint(id, ({ endpoints }) => endpoints.retire(id, now(), "owner_removed")),
    forget: (id) => withEndpoint(id, ({ endpoints }) => endpoints.forget(id)),

    cut: ({ account: name, code, reason = "", subscriptions: alsoEvents = true } = {}) =>
      Effect.map(
        cut(name, (connection) => (code === undefined ? connection.cut() : connection.close(code, reason))),
        (count) => count + (alsoEvents ? subscriptions.end(world.accounts.get(name ?? "")) : 0)
      ),
    replace: (name) => cut(name, (connection) => connection.close(4001, replacedReason)),

    fault: (fault) => {
      const added = Effect.sync(() => {
        const active = board.add(fault)
        if (fault.does === "stall") gateway.stall(fault.account)
        return active
      })
      return fault.account === undefined
        ? added
        : Effect.zipRight(
            withAccount(fault.account, () => undefined),
            added
          )
    },
    faults: Effect.sync(() => board.list()),
    clear: (id) => Effect.sync(() => board.clear(id))
  }
}
