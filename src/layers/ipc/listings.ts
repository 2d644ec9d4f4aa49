/** Lists that may be long: few are written at a time, part by part, and each only as its client reads. */
import { type HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { Effect, Option, type Scope, Stream } from "effect"
import type { Limits } from "../../services/Limits.js"
import { BrokerBusy } from "../../services/model/Errors.js"
import { nextTurn } from "../internal/nextTurn.js"
import { awaitTurn, breakOff } from "./longAnswers.js"
import { contentType } from "./refusals.js"

export interface ListingLimits {
  readonly inboxLists: number
  readonly inboxListMs: number
}

/** Lists that may wait for a place. */
const mostWaiting = 1_024
/** How often it is looked whether a client has read on, until its time is over. */
const mostLooks = 15
/** Characters of a part; one item may be longer. */
const partLength = 64 * 1024

type Request = HttpServerRequest.HttpServerRequest
type Items = Iterator<unknown, string | undefined>

export interface Listings {
  /**
   * Answers with `{"items": […]}`, and `next` where the iterator returns one. `items` is asked when the answer begins: once
   * those before it on its connection were given and it has one of the places there are. Each item is asked for when the
   * client has read those before it.
   */
  readonly answer: (
    request: Request,
    items: Effect.Effect<Items>
  ) => Effect.Effect<HttpServerResponse.HttpServerResponse, BrokerBusy, Scope.Scope>
}

export const makeListings = ({ inboxListMs, inboxLists }: ListingLimits, limits: Limits["Type"]): Listings => {
  let free = inboxLists
  /** Those that wait for a place, in order. */
  const line = new Set<() => void>()

  /** One of the places, until the scope closes. */
  const place = Effect.suspend(() => {
    let isTaken = false
    return Effect.acquireReleaseInterruptible(
      Effect.async<void>((resume) => {
        const take = () => {
          line.delete(take)
          free--
          isTaken = true
          resume(Effect.void)
        }
        if (free > 0) take()
        else line.add(take)
        return Effect.sync(() => line.delete(take))
      }),
      () =>
        Effect.sync(() => {
          if (!isTaken) return
          free++
          const [next] = line
          next?.()
        })
    )
  })

  const busy = () => {
    limits.unsafeHit("inbox_lists")
    return new BrokerBusy({ message: "Other lists are being written; try again a little later.", retryable: true })
  }

  const begin = (request: Request): Effect.Effect<void, BrokerBusy, Scope.Scope> =>
    Effect.zipRight(
      awaitTurn(request),
      Effect.suspend(() =>
        line.size >= mostWaiting
          ? Effect.fail(busy())
          : Effect.timeoutFail(place, { duration: inboxListMs, onTimeout: busy })
      )
    )

  /** Cuts off the client unless it is called again in time; where others wait for its place, that is soon. */
  const makePatience = (request: Request) =>
    Effect.map(
      Effect.acquireRelease(
        Effect.sync(() => {
          let looks = 0
          const look = () => {
            if (++looks < mostLooks && line.size === 0) return
            clearInterval(timer)
            limits.unsafeHit("inbox_lists")
            breakOff(request)
          }
          const timer = setInterval(look, inboxListMs / mostLooks)
          const hasRead = () => {
            looks = 0
            timer.refresh()
          }
          return { timer, hasRead }
        }),
        ({ timer }) => Effect.sync(() => clearInterval(timer))
      ),
      ({ hasRead }) => hasRead
    )

  return {
    answer: (request, items) =>
      Effect.gen(function* () {
        yield* begin(request)
        const parts = partsOf(yield* items)
        const first = parts.next()
        if (first.done === true) return HttpServerResponse.text(first.value, { contentType })
        const hasRead = yield* makePatience(request)
        let last: IteratorResult<string, string> = first
        const next = Effect.suspend(() => {
          hasRead()
          if (last.done === true) return Effect.fail(Option.none())
          last = parts.next()
          return Effect.succeed(last.value)
        })
        const rest = Stream.repeatEffectOption(Effect.zipRight(nextTurn, next))
        const text = Stream.onError(Stream.concat(Stream.make(first.value), rest), () =>
          Effect.sync(() => breakOff(request))
        )
        return HttpServerResponse.stream(Stream.encodeText(text), { contentType })
      })
  }
}

/** The JSON text of the list; the last part is what it returns. */
function* partsOf(items: Items): Generator<string, string, undefined> {
  let text = '{"items":['
  let separator = ""
  let item = items.next()
  while (item.done !== true) {
    text += separator + JSON.stringify(item.value)
    separator = ","
    if (text.length >= partLength) {
      yield text
      text = ""
    }
    item = items.next()
  }
  return item.value === undefined ? `${text}]}` : `${text}],"next":${JSON.stringify(item.value)}}`
}
