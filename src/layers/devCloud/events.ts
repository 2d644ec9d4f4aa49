/** Control events over SSE: subscriptions, their replay, and what is sent on them. */
import type { ServerResponse } from "node:http"
import type { Account } from "../../services/devCloud/Account.js"
import type { ControlEntry } from "../../services/devCloud/ControlLog.js"
import type { ActiveFault } from "../../services/devCloud/Faults.js"
import { Outflow } from "../../services/devCloud/Outflow.js"
import type { World } from "./world.js"

export interface Subscriptions {
  /** Answers the request with the stream. */
  readonly open: (
    account: Account,
    response: ServerResponse,
    options: {
      readonly lastEventId: string | undefined
      /** The fault of the subscription itself. */
      readonly fault: ActiveFault | undefined
      readonly onOpened: () => void
    }
  ) => void
  /** Sends the event to the account's subscribers. Answers how many there are. */
  readonly send: (account: Account, entry: ControlEntry) => number
  readonly write: (account: Account, chunks: ReadonlyArray<string>) => void
  readonly count: (account: Account) => number
  /** Ends those of the account, or all. */
  readonly end: (account?: Account) => number
}

interface Subscription {
  readonly account: Account
  readonly response: ServerResponse
  readonly events: Outflow<ControlEntry>
}

const keepAliveMs = 15_000

export const makeSubscriptions = (world: World): Subscriptions => {
  const { board, journal, later } = world
  const subscriptions = new Set<Subscription>()
  const of = (account: Account) => [...subscriptions].filter((one) => one.account === account)

  const start = (account: Account, response: ServerResponse, lastEventId: string | undefined) => {
    const connection = world.nextConnection()
    const events = new Outflow<ControlEntry>(
      board,
      {
        write: ({ data, id }) => void response.write(`id: ${id}\ndata: ${data}\n\n`),
        garble: (text = "{no JSON") => void response.write(`data: ${text}\n\n`),
        cut: () => response.destroy()
      },
      later
    )
    const subscription = { account, response, events }
    subscriptions.add(subscription)
    const detail = lastEventId === undefined ? "" : `after ${lastEventId}`
    journal.add(account.name, { kind: "subscription", connection, state: "opened", detail })
    response.on("close", () => {
      events.close()
      subscriptions.delete(subscription)
      journal.add(account.name, { kind: "subscription", connection, state: "closed", detail: "" })
    })
    response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-cache" })
    response.write(": subscribed\n\n")
    for (const entry of account.control.replay(lastEventId)) events.push(entry, "event", account.name)
    const keepAlive = () => {
      if (response.destroyed) return
      response.write(": alive\n\n")
      later(keepAliveMs, keepAlive)
    }
    later(keepAliveMs, keepAlive)
  }

  return {
    open: (account, response, { fault, lastEventId, onOpened }) => {
      response.on("error", () => undefined)
      const opening = new Outflow<undefined>(
        board,
        {
          write: () => {
            if (response.destroyed || response.headersSent) return
            start(account, response, lastEventId)
            onOpened()
          },
          garble: (text = "<html>no events</html>") => {
            response.writeHead(200, { "content-type": "text/html" }).end(text)
          },
          cut: () => response.destroy()
        },
        later
      )
      response.on("close", () => opening.close())
      opening.pushUnder(undefined, fault)
    },
    send: (account, entry) => {
      const subscribers = of(account)
      for (const { events } of subscribers) events.push(entry, "event", account.name)
      return subscribers.length
    },
    write: (account, chunks) => {
      for (const { response } of of(account)) {
        // One turn of the loop apart, so that they arrive apart.
        chunks.forEach((chunk, index) => {
          later(index * 20, () => void response.write(chunk))
        })
      }
    },
    count: (account) => of(account).length,
    end: (account) => {
      const ending = account === undefined ? [...subscriptions] : of(account)
      for (const { response } of ending) response.destroy()
      return ending.length
    }
  }
}
