import { createHmac } from "node:crypto"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { RunningBroker } from "../../kit/broker.js"
import { refused, usualBroker } from "../../kit/endToEnd.js"

const nonce = "00112233445566778899aabbccddeeff"

describe("GET /v1/proof", () => {
  const noToken = { authorization: "" }
  const ask = (broker: RunningBroker, query: string) => broker.call("GET", `/v1/proof${query}`, undefined, noToken)
  const expected = ({ port, token }: RunningBroker, text: string) =>
    createHmac("sha256", token).update(`runtime-broker\n${port}\n${text}`).digest("hex")

  it.scopedLive("S13: proves without a token that the broker knows the plugin token and has this port", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      for (const text of [nonce, nonce.repeat(4), nonce.toUpperCase(), `${nonce}0`]) {
        const answer = yield* ask(broker, `?nonce=${text}`)
        assert.deepStrictEqual([answer.status, answer.body], [200, { proof: expected(broker, text) }])
      }
    })
  )

  it.scopedLive("S13: says nothing else, and no token", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const answer = yield* ask(broker, `?nonce=${nonce}`)
      const text = JSON.stringify([answer.body, answer.headers])
      assert.notInclude(text, broker.token)
      assert.notInclude(text, broker.operatorToken)
    })
  )

  it.scopedLive("gives the same proof to who has a token, whichever", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const proof = expected(broker, nonce)
      assert.strictEqual((yield* broker.call("GET", `/v1/proof?nonce=${nonce}`)).body.proof, proof)
      assert.strictEqual((yield* broker.operator("GET", `/v1/proof?nonce=${nonce}&x=1`)).body.proof, proof)
    })
  )

  it.scopedLive("refuses a nonce that is missing, too short, too long, doubled, or not hex, and names it", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const wrong = [
        "",
        "?",
        "?nonce",
        "?nonce=",
        "?other=1",
        `?nonce=${nonce.slice(1)}`,
        `?nonce=${nonce.repeat(4)}0`,
        `?nonce=${nonce.slice(2)}zz`,
        `?nonce=${nonce}%0a`,
        `?nonce=%20${nonce}`,
        `?nonce=${nonce}&nonce=${nonce}`,
        "?nonce=%zz"
      ]
      for (const query of wrong) refused(yield* ask(broker, query), 400, "bad_request", "nonce")
    })
  )

  it.scopedLive("is open to GET only", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      refused(yield* broker.call("POST", "/v1/proof", {}), 404, "not_found", "/v1/proof")
      refused(yield* broker.call("POST", "/v1/proof", {}, noToken), 401, "unauthorized")
    })
  )
})
