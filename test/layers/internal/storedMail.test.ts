import { assert, describe, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import { keyOf } from "../../../src/layers/internal/mail.js"
import { storedMail } from "../../../src/layers/internal/storedMail.js"
import type { EndpointKey } from "../../../src/services/model/Ids.js"
import type { Message } from "../../../src/services/model/Message.js"
import { ordered } from "../../../src/services/model/StoreKey.js"

const letters = fc.uniqueArray(
  fc.record({
    endpoint: fc.integer({ min: 0, max: 40 }),
    place: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
    bytes: fc.nat({ max: 2 ** 40 }),
    id: fc.oneof(fc.string({ minLength: 1 }), fc.stringMatching(/^[A-Za-z0-9_.:-]{1,40}$/))
  }),
  { selector: ({ id }) => id }
)

describe("the keys of stored mail", () => {
  it("tell of each mailbox how much it holds and where it ends, and the ids of all", () => {
    fc.assert(
      fc.property(letters, fc.string(), (given, other) => {
        const named = given.map(({ bytes, endpoint, id, place }) => {
          const message = { id, bytes } as Message
          return { bytes, id, place, owner: ordered(endpoint), key: keyOf(endpoint as EndpointKey, { message, place }) }
        })
        const all = storedMail.empty()
        for (const key of named.map(({ key }) => key).sort()) {
          // As they lie in a file: between others.
          const bytes = Buffer.from(`//${key}//`, "latin1")
          storedMail.add(all, bytes, 2, 2 + key.length)
          bytes.fill(0)
        }

        assert.deepStrictEqual([...all.mailboxes.keys()], [...new Set(named.map(({ owner }) => owner))].sort())
        for (const [owner, { bytes, count, last }] of all.mailboxes) {
          const of = named.filter((letter) => letter.owner === owner)
          assert.deepStrictEqual(
            [count, bytes, last],
            [of.length, of.reduce((sum, letter) => sum + letter.bytes, 0), Math.max(...of.map(({ place }) => place))]
          )
        }
        const { ids } = all
        for (const { id } of named) assert.isTrue(ids.has(id), id)
        assert.strictEqual(
          ids.has(other),
          given.some(({ id }) => id === other)
        )
        if (given.length === 0) return
        ids.delete(given[0]!.id)
        assert.deepStrictEqual(
          given.map(({ id }) => ids.has(id)),
          given.map((_, n) => n > 0)
        )
      })
    )
  })
})
