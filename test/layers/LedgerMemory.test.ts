import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import * as LedgerMemory from "../../src/layers/LedgerMemory.js"
import { Ledger } from "../../src/services/Ledger.js"

it.effect("books begin empty and balanced", () =>
  Effect.gen(function* () {
    const none = { accepted: 0, delivered: 0, held: 0, inbox: 0, expired: 0, dead: 0, unaccounted: 0 }
    assert.deepStrictEqual((yield* Ledger).unsafeBooks(), none)
  }).pipe(Effect.provide(LedgerMemory.layer))
)

it.effect("what is counted and what is held make up what was accepted", () =>
  Effect.gen(function* () {
    const ledger = yield* Ledger
    let held = 3
    ledger.unsafeHolds("held", () => held)
    ledger.unsafeHolds("inbox", () => 2)
    ledger.unsafeCount("accepted", 10)
    ledger.unsafeCount("delivered", 2)
    ledger.unsafeCount("delivered", 1)
    ledger.unsafeCount("expired", 1)
    ledger.unsafeCount("dead", 1)
    const books = { accepted: 10, delivered: 3, held: 3, inbox: 2, expired: 1, dead: 1, unaccounted: 0 }
    assert.deepStrictEqual(ledger.unsafeBooks(), books)
    assert.strictEqual(ledger.unsafeAccepted(), 10)
    held = 4
    assert.deepStrictEqual(ledger.unsafeBooks(), { ...books, held: 4, unaccounted: -1 })
  }).pipe(Effect.provide(LedgerMemory.layer))
)

it.effect("a message nobody can account for shows", () =>
  Effect.gen(function* () {
    const ledger = yield* Ledger
    ledger.unsafeCount("accepted", 1)
    assert.strictEqual(ledger.unsafeBooks().unaccounted, 1)
  }).pipe(Effect.provide(LedgerMemory.layer))
)
