import { Socket } from "node:net"
import { assert, describe, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import { Room } from "../../../src/layers/ipc/Room.js"

const takes = fc.record({ of: fc.nat(2), amount: fc.integer({ min: -30, max: 30 }) })

describe("a room", () => {
  it.prop("gives each its own part, and of the shared one no more than there is", [fc.array(takes)], ([steps]) => {
    const [shared, own] = [50, 10]
    const room = new Room(shared, own)
    const sockets = [new Socket(), new Socket(), new Socket()]
    const taken = [0, 0, 0]
    const beyond = () => taken.reduce((sum, amount) => sum + Math.max(0, amount - own), 0)
    for (const { amount, of } of steps) {
      const before = taken[of]!
      if (amount < 0) {
        const given = Math.min(before, -amount)
        room.give(sockets[of]!, given)
        taken[of] = before - given
        continue
      }
      taken[of] = before + amount
      const fits = beyond() <= shared
      assert.strictEqual(room.take(sockets[of]!, amount), fits)
      if (!fits) taken[of] = before
    }
    for (const socket of sockets) room.giveAll(socket)
    assert.isFalse(room.take(sockets[0]!, shared + own + 1))
    assert.isTrue(room.take(sockets[0]!, shared + own), "all of it is there again")
  })
})
