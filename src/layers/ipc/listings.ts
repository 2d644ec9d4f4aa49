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

/** Requests for lists that may wait, whatever for. */
const mostWaiting = 1_024
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
  readonly answer: <E>(
    request: Request,
    items: Effect.Effect<Items, E>
  ) => Effect.Effect<HttpServerResponse.HttpServerResponse, BrokerBusy | E, Scope.Scope>
}

export const makeListings = ({ inboxListMs, inboxLists }: ListingLimits, limits: Limits["Type"]): Listings => {
  let free = inboxLists
  let waiting = 0
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
    Effect.suspend(() => {
      if (waiting >= mostWaiting) return Effect.fail(busy())
      waiting++
      return awaitTurn(request).pipe(
        Effect.zipRight(Effect.timeoutFail(place, { duration: inboxListMs, onTimeout: busy })),
        Effect.ensuring(Effect.sync(() => waiting--))
      )
    })

  /** Cuts off the client unless it is called again in time. */
  const makePatience = (request: Request) =>
    Effect.map(
      Effect.acquireRelease(
        Effect.sync(() =>
          setTimeout(() => {
            limits.unsafeHit("inbox_lists")
            breakOff(request)
          }, inboxListMs)
        ),
        (timer) => Effect.sync(() => clearTimeout(timer))
      ),
      (timer) => () => timer.refresh()
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
