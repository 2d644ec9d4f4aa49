/** A platform's stream of control events the test holds in its hands: requests, what they are answered, what is sent. */
import { HttpClient, HttpClientError, HttpClientResponse } from "@effect/platform"
import { Effect, Layer } from "effect"

/** One request, and the stream it got. */
export class FakeSubscription {
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  isAborted = false
  controller: ReadableStreamDefaultController<Uint8Array> | undefined

  constructor(url: string, headers: Readonly<Record<string, string>>) {
    this.url = url
    this.headers = headers
  }

  send(text: string): void {
    this.controller!.enqueue(new TextEncoder().encode(text))
  }

  event(id: string, data: string): void {
    this.send(`id: ${id}\ndata: ${data}\n\n`)
  }

  end(): void {
    this.controller!.close()
  }

  breakOff(): void {
    this.controller!.error(new Error("broken"))
  }
}

export type Answer =
  | "stream"
  | "unreachable"
  | "silence"
  | "throw"
  | { readonly status: number; readonly headers?: Record<string, string> }

export class FakeEventSource {
  readonly subscriptions: Array<FakeSubscription> = []
  /** How the next requests are answered. */
  answer: Answer = "stream"

  get last(): FakeSubscription {
    return this.subscriptions.at(-1)!
  }

  readonly layer = Layer.succeed(
    HttpClient.HttpClient,
    HttpClient.make((request, url, signal) =>
      Effect.suspend((): Effect.Effect<HttpClientResponse.HttpClientResponse, HttpClientError.HttpClientError> => {
        const subscription = new FakeSubscription(String(url), request.headers)
        this.subscriptions.push(subscription)
        signal.addEventListener("abort", () => {
          subscription.isAborted = true
        })
        const respond = (body: ReadableStream | null, init: ResponseInit) =>
          Effect.succeed(HttpClientResponse.fromWeb(request, new Response(body as any, init)))
        switch (this.answer) {
          case "silence":
            return Effect.never
          case "throw":
            throw new TypeError("Invalid character in header content")
          case "unreachable":
            return new HttpClientError.RequestError({
              request,
              reason: "Transport",
              cause: Object.assign(new Error("secret text"), { code: "ECONNREFUSED" })
            })
          case "stream": {
            const body = new ReadableStream<Uint8Array>({
              start: (controller) => {
                subscription.controller = controller
              }
            })
            return respond(body, { status: 200 })
          }
          default:
            return respond(null, this.answer)
        }
      })
    )
  )
}
