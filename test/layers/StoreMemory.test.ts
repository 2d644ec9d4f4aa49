import { assert, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import * as StoreMemory from "../../src/layers/StoreMemory.js"
import { storeContract } from "../../src/services/contracts/StoreContract.js"
import { Store, Transaction, table } from "../../src/services/Store.js"
import { configWith, KeptLog } from "../kit/ground.js"

const layer = StoreMemory.layer.pipe(Layer.provide([configWith(), new KeptLog().layer]))

storeContract("StoreMemory", layer)

it.scopedLive("a second one starts empty: it forgets with its scope", () =>
  Effect.gen(function* () {
    const things = table<number>("things", 1)
    const transaction = new Transaction()
    transaction.put(things, "a", 1)
    yield* Effect.flatMap(Store, (store) => store.commit(transaction)).pipe(Effect.provide(layer))
    const found = Effect.map(Store, (store) => store.unsafeGet(things, "a"))
    assert.isUndefined(yield* Effect.provide(found, layer))
  })
)
