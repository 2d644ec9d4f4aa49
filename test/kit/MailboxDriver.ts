/**
 * Plays the layer's part around a `MailboxState`: a store that is a sorted array with commits under way, a channel that can be
 * congested, a clock. Beside it a naive model that knows of each message where it stands; every step is checked against it.
 */
import { strict as assert } from "node:assert"
import { ChannelId, MessageId, PushId } from "../../src/services/model/Ids.js"
import { type Letter, type MailboxLimits, MailboxState, type Place } from "../../src/services/model/MailboxState.js"
import { isExpired, type Message } from "../../src/services/model/Message.js"
import { Commit, SortedMail } from "./SortedMail.js"

/** What the model knows of a message. */
interface Entry {
  readonly id: string
  readonly bytes: number
  /** Where it belongs: behind all that arrived before it. */
  readonly rank: number
  /** In the store, or on the way there. */
  isStored: boolean
  /** The mailbox knows that it is durable. */
  isWritten: boolean
  inFlight: PushId | undefined
  everPushed: boolean
  /** The channel it may not be pushed over again. */
  spentOn: ChannelId | undefined
  failures: number
}

const isBefore = (a: Entry, b: Entry) => a.rank < b.rank

const bytesOf = (entries: ReadonlyArray<Entry>) => entries.reduce((sum, { bytes }) => sum + bytes, 0)

export class MailboxDriver {
  readonly state: MailboxState
  now = 1_000
  /** Ids in the order of their pushes. */
  readonly pushes: Array<string> = []
  readonly delivered: Array<string> = []
  readonly dead: Array<string> = []
  readonly expired: Array<string> = []
  /** Everything that arrived and has not left. */
  readonly mail = new Map<string, Entry>()
  private readonly limits: MailboxLimits
  private readonly store = new SortedMail()
  private readonly places = new Map<PushId, Place>()
  private arrived = 0
  private channel: { readonly id: ChannelId; readonly receipts: boolean } | undefined
  private channels = 0
  private pushIds = 0
  private isCongested = false
  private pausedUntil = 0

  constructor(limits: MailboxLimits) {
    this.limits = limits
    this.state = new MailboxState(limits)
  }

  // -- what can happen -------------------------------------------------------------------------------------------------

  /** A message arrives. Returns its id. */
  arrive(bytes = 10, livesMs?: number): string {
    const id = `m${++this.arrived}`
    const message: Message = {
      id: MessageId(id),
      from: "peer",
      content: id,
      contentType: "text",
      metadata: {},
      arrivedAt: this.now,
      bytes,
      ...(livesMs === undefined ? {} : { expiresAt: this.now + livesMs })
    }
    this.mail.set(id, {
      id,
      bytes,
      rank: this.arrived,
      isStored: false,
      isWritten: false,
      inFlight: undefined,
      everPushed: false,
      spentOn: undefined,
      failures: 0
    })
    this.turn((commit) => {
      const letter = this.state.letter(message, { token: id, isAccepted: false })
      if (this.state.canPushLive(letter, this.now) && this.push(commit, letter)) return
      this.write(commit, this.state.write(letter))
    })
    return id
  }

  attach(receipts: boolean): void {
    if (this.channel !== undefined) this.detach()
    this.channel = { id: ChannelId(++this.channels), receipts }
    this.isCongested = false
    this.pausedUntil = 0
    this.turn((commit) => {
      this.state.attach({ channel: this.channel!.id, receipts })
      this.pump(commit)
    })
  }

  detach(): void {
    if (this.channel === undefined) return
    this.channel = undefined
    const flying = this.flying()
    this.turn((commit) => {
      const oldest = flying[0]
      if (oldest !== undefined) oldest.failures++
      const { dead, failed, write } = this.state.detach()
      for (const entry of flying) entry.inFlight = undefined
      const isDead = oldest !== undefined && oldest.failures >= this.limits.deliveryLimit
      assert.equal(dead?.message.id, isDead ? oldest.id : undefined, "dead at the delivery limit, not before")
      if (dead !== undefined) this.leave(commit, dead, this.dead)
      this.write(commit, write)
      if (failed !== undefined && !write.includes(failed)) this.rewrite(commit, failed)
      this.settle(commit)
      const stillLive = [...this.mail.values()].filter(({ isStored }) => !isStored)
      assert.deepEqual(stillLive, [], "without a channel everything is stored")
    })
  }

  acknowledge(index: number): void {
    const entry = this.pick(index)
    if (entry === undefined) return
    this.turn((commit) => {
      const letter = this.state.acknowledge(entry.inFlight!)
      assert.equal(letter?.message.id, entry.id)
      this.leave(commit, letter!, this.delivered)
      this.pump(commit)
    })
  }

  refuse(index: number, pauseMs: number): void {
    const entry = this.pick(index)
    if (entry === undefined) return
    entry.failures++
    this.turn((commit) => {
      const refused = this.state.refuse(entry.inFlight!, this.now, (failures) => {
        assert.equal(failures, entry.failures, "the pause depends on the number of failures")
        return pauseMs
      })!
      entry.inFlight = undefined
      entry.spentOn = undefined
      assert.equal(refused.letter.message.id, entry.id)
      assert.equal(refused.dead, entry.failures >= this.limits.deliveryLimit, "dead at the delivery limit")
      if (refused.dead) this.leave(commit, refused.letter, this.dead)
      else this.pausedUntil = this.now + pauseMs
      if (!refused.dead && !refused.write.includes(refused.letter)) this.rewrite(commit, refused.letter)
      this.write(commit, refused.write)
      this.pump(commit)
    })
  }

  /** No receipt for too long: the live push and what is live before it are stored. */
  spill(index: number): void {
    const entry = this.pick(index)
    const place = entry === undefined ? undefined : this.places.get(entry.inFlight!)
    if (place === undefined) return
    this.turn((commit) => this.write(commit, this.state.spill(place)))
  }

  congest(): void {
    if (this.channel !== undefined) this.isCongested = true
  }

  readOn(): void {
    this.isCongested = false
    this.turn((commit) => {
      this.state.setCongested(false)
      this.pump(commit)
    })
  }

  advance(ms: number): void {
    this.now += ms
    this.turn((commit) => this.pump(commit))
  }

  /** What the store holds and is over leaves, unless it is in flight or being written. */
  sweep(): void {
    if (!this.state.isSettled) return
    this.turn((commit) => {
      for (const { message, place } of this.store.records) {
        if (!isExpired(message, this.now)) continue
        const entry = this.mail.get(message.id)
        const leaves = entry?.isWritten === true && entry.inFlight === undefined
        assert.equal(this.state.expire(place, message.bytes), leaves, `${message.id} leaves at its time`)
        if (!leaves) continue
        commit.deletes.push(place)
        this.mail.delete(entry.id)
        this.expired.push(entry.id)
        this.settle(commit)
      }
      this.pump(commit)
    })
  }

  /** The oldest write becomes durable; nobody has been told yet. */
  durable(): void {
    this.store.durable()
  }

  /** The oldest write is complete. */
  wrote(): void {
    this.store.complete()
    this.check()
  }

  // -- what must hold --------------------------------------------------------------------------------------------------

  /** The plugin comes back and acknowledges everything: whatever happened before, all of it arrives, in order. */
  finish(): void {
    if (this.channel?.receipts !== true) this.attach(true)
    this.readOn()
    while (this.mail.size > 0) {
      const before = this.mail.size
      while (this.store.isWriting) this.wrote()
      this.now = Math.max(this.now, this.pausedUntil)
      this.advance(0)
      this.acknowledge(0)
      assert.ok(this.mail.size < before, `${[...this.mail.keys()]} are stuck`)
    }
    while (this.store.isWriting) this.wrote()
    assert.deepEqual(this.store.records, [], "nothing stays in the store")
    assert.ok(this.state.isSettled)
    assert.deepEqual([this.state.size, this.state.count, this.state.bytes, this.state.flying], [0, 0, 0, 0])
    const left = [...this.delivered, ...this.dead, ...this.expired]
    assert.equal(left.length, this.arrived, "everything leaves, once")
    assert.equal(new Set(left).size, this.arrived)
  }

  /** The endpoint ends: all its mail is in what `close` tells, or behind the point it names in the store. */
  close(): void {
    this.detach()
    const { after, bytes, letters, unloaded } = this.state.close()
    while (this.store.isWriting) this.store.complete()
    const told = letters.map(({ message }) => message.id as string)
    const behind = this.store.behind(after).map(({ message }) => message.id)
    const inOrder = [...this.mail.values()].sort((a, b) => (isBefore(a, b) ? -1 : 1)).map(({ id }) => id)
    assert.deepEqual([...new Set([...told, ...behind])].sort(), [...inOrder].sort(), "all mail is found")
    assert.equal(letters.length + unloaded, inOrder.length, "and counted")
    assert.deepEqual(
      told,
      inOrder.filter((id) => told.includes(id)),
      "in order"
    )
    assert.equal(
      bytes,
      [...this.mail.values()].reduce((sum, entry) => sum + entry.bytes, 0)
    )
    assert.deepEqual([this.state.size, this.state.count, this.state.bytes, this.state.flying], [0, 0, 0, 0])
  }

  private check(): void {
    const all = [...this.mail.values()]
    const stored = all.filter(({ isStored }) => isStored)
    const flying = this.flying()
    assert.deepEqual(
      { size: this.state.size, count: this.state.count, bytes: this.state.bytes, flying: this.state.flying },
      { size: all.length, count: stored.length, bytes: bytesOf(stored), flying: flying.length }
    )
    const { windowBytes, windowMessages } = this.limits
    assert.ok(flying.length <= windowMessages, "the window holds so many messages")
    assert.ok(flying.length <= 1 || bytesOf(flying) <= windowBytes, "the window holds so many bytes")

    const held = this.state.loaded.map(({ message }) => this.mail.get(message.id)!)
    assert.ok(held.length <= windowMessages, "memory holds so many messages beside those in flight")
    assert.ok(held.length <= 1 || bytesOf(held) <= windowBytes, "memory holds so many bytes beside those in flight")
    if (this.channel === undefined) assert.deepEqual(held, [], "memory holds nothing durable for who is away")
    const written = all.filter(({ inFlight, isWritten }) => isWritten && inFlight === undefined)
    assert.equal(this.state.unloadedCount, written.length - held.length, "what memory does not hold is in the store")

    const isOpen = this.channel !== undefined && !this.isCongested && this.now >= this.pausedUntil
    const next = all.filter(({ inFlight }) => inFlight === undefined).sort((a, b) => (isBefore(a, b) ? -1 : 1))[0]
    if (!isOpen || this.store.isWriting || !this.state.isSettled || next === undefined) return
    const hasRoom =
      flying.length === 0 || (flying.length < windowMessages && bytesOf(flying) + next.bytes <= windowBytes)
    assert.ok(!hasRoom, `${next.id} could be pushed and is not`)
  }

  // -- the layer's part ------------------------------------------------------------------------------------------------

  private turn(act: (commit: Commit) => void): void {
    const commit = new Commit()
    act(commit)
    this.store.commit(commit)
    this.check()
  }

  private push(commit: Commit, letter: Letter): boolean {
    if (this.isCongested) {
      this.state.setCongested(true)
      return false
    }
    const entry = this.mail.get(letter.message.id)
    assert.ok(entry !== undefined, `${letter.message.id} has left and is pushed again`)
    const { id, receipts } = this.channel!
    assert.equal(entry.inFlight, undefined, `${entry.id} is pushed while it is in flight`)
    assert.notEqual(entry.spentOn, id, `${entry.id} is pushed twice over one channel`)
    assert.equal(letter.redelivered, entry.everPushed, `${entry.id}: redelivered exactly when pushed before`)
    assert.ok(!isExpired(letter.message, this.now), `${entry.id} is expired`)
    for (const other of this.mail.values()) {
      const overtakes = other.inFlight === undefined && isBefore(other, entry)
      assert.ok(!overtakes, `${entry.id} overtakes ${other.id}`)
    }
    this.pushes.push(entry.id)
    entry.everPushed = true
    entry.spentOn = id
    if (!receipts) {
      this.state.drop(letter)
      this.leave(commit, letter, this.delivered)
      return true
    }
    entry.inFlight = PushId(`p${++this.pushIds}`)
    this.places.set(entry.inFlight, letter.place)
    this.state.pushed(letter, entry.inFlight, this.now)
    return true
  }

  private pump(commit: Commit): void {
    while (true) {
      const next = this.state.next(this.now)
      if (next._tag === "Wait") return
      if (next._tag === "Load") {
        if (!this.load(next.after)) return
      } else if (next._tag === "Expired") {
        this.state.drop(next.letter)
        this.leave(commit, next.letter, this.expired)
      } else if (!this.push(commit, next.letter)) return
    }
  }

  private load(after: Place): boolean {
    let bytes = 0
    const page = this.store.behind(after).filter(({ message }, index) => {
      bytes += message.bytes
      return index < this.limits.windowMessages && (index === 0 || bytes <= this.limits.windowBytes)
    })
    return this.state.load(
      page.map(
        ({ failures, message, place, pushed }): Letter => ({
          message,
          place,
          token: undefined,
          isAccepted: true,
          stored: "written",
          redelivered: pushed,
          failures,
          pushedAt: undefined
        })
      )
    )
  }

  private write(commit: Commit, letters: ReadonlyArray<Letter>): void {
    if (letters.length === 0) return
    for (const letter of letters) {
      this.rewrite(commit, letter)
      const entry = this.mail.get(letter.message.id)!
      assert.ok(!entry.isStored, `${entry.id} is written twice`)
      entry.isStored = true
    }
    const written = letters.map(({ message }) => this.mail.get(message.id)!)
    for (const other of this.mail.values()) {
      const isLeftBehind = !other.isStored && written.some((entry) => isBefore(other, entry))
      assert.ok(!isLeftBehind, `${other.id} is live and older than what is written`)
    }
    commit.effects.push(() => {
      for (const letter of letters) this.state.wrote(letter)
      for (const entry of written) entry.isWritten = true
      if (this.state.deliversOver !== undefined) this.turn((next) => this.pump(next))
    })
  }

  private rewrite(commit: Commit, { failures, message, place, pushedAt }: Letter): void {
    commit.puts.push({ message, place, failures, pushed: pushedAt !== undefined })
  }

  private settle(commit: Commit): void {
    commit.isBarrier = true
    commit.effects.push(() => {
      this.state.settled()
      if (this.state.deliversOver !== undefined) this.turn((next) => this.pump(next))
    })
  }

  private leave(commit: Commit, letter: Letter, to: Array<string>): void {
    const entry = this.mail.get(letter.message.id)!
    if (entry.isStored) commit.deletes.push(letter.place)
    this.mail.delete(entry.id)
    to.push(entry.id)
  }

  /** What is in flight, the oldest first. */
  private flying(): ReadonlyArray<Entry> {
    return [...this.mail.values()]
      .filter(({ inFlight }) => inFlight !== undefined)
      .sort((a, b) => (isBefore(a, b) ? -1 : 1))
  }

  private pick(index: number): Entry | undefined {
    const flying = this.flying()
    return flying[index % Math.max(1, flying.length)]
  }
}
