import { assert, describe, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import { EventStreamParser, isPosition, type StreamItem } from "../../../src/services/model/EventStream.js"

const limit = 200
const bytes = (text: string) => new TextEncoder().encode(text)

/** What comes of the chunks, one after the other. */
const parse = (chunks: ReadonlyArray<Uint8Array>, most = limit): ReadonlyArray<StreamItem> => {
  const parser = new EventStreamParser(most)
  return chunks.flatMap((chunk) => parser.push(chunk))
}
const event = (data: string, id?: string): StreamItem => ({ _tag: "Event", id, data })
const position = (id: string): StreamItem => ({ _tag: "Position", id })
const retry = (ms: number): StreamItem => ({ _tag: "Retry", ms })
const tooLarge = (id?: string): StreamItem => ({ _tag: "TooLarge", id })

/** Streams and what they say. */
const corpus: ReadonlyArray<readonly [name: string, text: string, says: ReadonlyArray<StreamItem>]> = [
  ["lines end with LF", "id: 7\ndata: a\n\ndata: b\n\n", [event("a", "7"), event("b")]],
  ["lines end with CR LF", "id: 7\r\ndata: a\r\n\r\ndata: b\r\n\r\n", [event("a", "7"), event("b")]],
  ["lines end with CR", "id: 7\rdata: a\r\rdata: b\r\r", [event("a", "7"), event("b")]],
  ["line ends are mixed", "id: 7\r\ndata: a\n\rdata: b\r\r\ndata: c\n\n", [event("a", "7"), event("b"), event("c")]],
  ["LF CR is two line ends", "data: a\n\rdata: b\n\r", [event("a"), event("b")]],
  ["data has several lines", "data: a\ndata\ndata:\ndata: b\n\n", [event("a\n\n\nb")]],
  ["a frame is one empty line of data", "data\n\n", [event("")]],
  ["one leading space is taken away", "data:  a \ndata:b\n\n", [event(" a \nb")]],
  ["colons after the first are the value's", "data: a: b:c\n\n", [event("a: b:c")]],
  ["comments say nothing", ": alive\n\n:\n:data: no\ndata: a\n: data: no\n\n", [event("a")]],
  ["empty lines say nothing", "\n\r\n\r\n\n\ndata: a\n\n\n\n", [event("a")]],
  ["event and unknown fields say nothing", "event: x\nfoo: bar\nfoo\ndata: a\nDATA: b\n data: c\n\n", [event("a")]],
  ["a frame has only an id", "id: 8\n\n", [position("8")]],
  ["the later id of a frame counts", "id: 8\nid: 9\ndata: a\n\n", [event("a", "9")]],
  ["an id is of its frame alone", "id: 8\ndata: a\n\ndata: b\n\n", [event("a", "8"), event("b")]],
  ["an empty id says nothing", "id:\n\nid: 8\nid\ndata: a\n\n", [event("a", "8")]],
  ["an id with NUL says nothing", "id: 8\u0000\ndata: a\n\n", [event("a")]],
  ["retry counts at once", "retry: 2500\ndata: a\n\nretry:10\n\n", [retry(2_500), event("a"), retry(10)]],
  ["retry is a whole number", "retry: 1.5\nretry: -1\nretry: x\nretry\nretry: 9999999999\n\n", []],
  ["a byte order mark begins it", "\ufeffdata: a\n\n", [event("a")]],
  ["a second byte order mark is a character", "\ufeff\ufeffdata: a\n\ndata: b\n\n", [event("b")]],
  ["characters have several bytes", "id: ä\ndata: 日本 😀\ndata: é\n\n", [event("日本 😀\né", "ä")]],
  ["the end is missing", "data: a\n\nid: 9\ndata: b\n", [event("a")]],
  ["the last line is not ended", "data: a\n\ndata: b", [event("a")]],
  ["an event is long", `data: ${"x".repeat(limit - 6)}\n\n`, [event("x".repeat(limit - 6))]],
  ["an event is too long", `id: 9\ndata: ${"x".repeat(limit)}\n\ndata: b\n\n`, [tooLarge("9"), event("b")]],
  [
    "many lines are too long",
    `${`data: ${"y".repeat(20)}\n`.repeat(12)}id: 9\n\ndata: b\n\n`,
    [tooLarge("9"), event("b")]
  ],
  ["a comment is too long", `:${"x".repeat(3 * limit)}\ndata: a\n\n`, [event("a")]],
  ["an id is too long", `id: ${"x".repeat(2 * limit)}\ndata: a\n\n`, [event("a")]],
  ["a retry is too long", `retry: 123456789${"0".repeat(2 * limit)}\ndata: a\n\n`, [event("a")]],
  ["a name is too long", `${"x".repeat(2 * limit)}: 1\ndata: a\n\n`, [event("a")]]
]

/** Compared as texts, which takes a tenth of the time, before it is told what differs. */
const isSaid = (chunks: ReadonlyArray<Uint8Array>, says: ReadonlyArray<StreamItem>, context: string): void => {
  const said = parse(chunks)
  if (JSON.stringify(said) !== JSON.stringify(says)) assert.deepStrictEqual(said, says, context)
}

/** Where to split: everywhere in short texts; in long ones near line ends, colons, both ends and the limit, and now and then. */
const placesIn = (whole: Uint8Array): ReadonlyArray<number> => {
  const isNear = (at: number) =>
    at <= 12 || at >= whole.length - 12 || whole.slice(at - 2, at + 2).some((byte) => [10, 13, 58].includes(byte))
  return Array.from({ length: whole.length + 1 }, (_, at) => at).filter(
    (at) => whole.length <= 80 || isNear(at) || Math.abs(at - limit) <= 8 || at % 23 === 0
  )
}

describe("a stream of events", () => {
  for (const [name, text, says] of corpus) {
    it(`in one piece, when ${name}`, () => assert.deepStrictEqual(parse([bytes(text)]), says))
  }

  it("says the same at every split of the corpus into two chunks", () => {
    for (const [name, text, says] of corpus) {
      const whole = bytes(text)
      for (let at = 0; at <= whole.length; at++) {
        isSaid([whole.subarray(0, at), whole.subarray(at)], says, `${name}, split at ${at}`)
      }
    }
  })

  it("says the same at every split of the corpus into three chunks; of long texts, at some within a line", () => {
    for (const [name, text, says] of corpus) {
      const whole = bytes(text)
      const places = placesIn(whole)
      for (const [n, a] of places.entries()) {
        for (const b of places.slice(n)) {
          const chunks = [whole.subarray(0, a), whole.subarray(a, b), whole.subarray(b)]
          isSaid(chunks, says, `${name}, split at ${a} and ${b}`)
        }
      }
    }
  })

  it("says the same byte by byte, and all of the corpus one after the other", () => {
    for (const [name, text, says] of corpus) {
      assert.deepStrictEqual(parse(Array.from(bytes(text), (byte) => Uint8Array.of(byte))), says, name)
    }
    const complete = corpus.filter(([name]) => !/missing|not ended|mark/.test(name))
    const all = bytes(complete.map(([, text]) => text).join(""))
    const said = complete.flatMap(([, , says]) => says)
    for (let at = 0; at <= all.length; at += 7) {
      isSaid([all.subarray(0, at), all.subarray(at)], said, `split at ${at}`)
    }
  })

  it("F6: CR and LF in different chunks are one line end: the id stays with its event", () => {
    assert.deepStrictEqual(parse([bytes("id: 7\r"), bytes("\ndata: a\r\n\r\n")]), [event("a", "7")])
    assert.deepStrictEqual(parse([bytes("data: a\r\n\r"), bytes("\ndata: b\r\n\r\n")]), [event("a"), event("b")])
    const empty = new Uint8Array()
    assert.deepStrictEqual(parse([bytes("id: 7\r"), empty, bytes("\ndata: a\n\n")]), [event("a", "7")])
  })

  it("is the same for any bytes, however they are cut; nothing in them throws", () => {
    const piece = fc.oneof(
      fc.uint8Array({ maxLength: 40 }),
      fc
        .constantFrom(
          "data: ",
          "data",
          "id: ",
          "id",
          "retry: ",
          ":",
          "\r",
          "\n",
          "\r\n",
          "\n\n",
          "7",
          "ä",
          "😀",
          "\ufeff"
        )
        .map(bytes),
      fc.string({ maxLength: 300 }).map(bytes)
    )
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 40 }), fc.array(fc.nat(2_000), { maxLength: 12 }), (pieces, cuts) => {
        const whole = Uint8Array.from(pieces.flatMap((one) => [...one]))
        const at = [0, ...cuts.map((cut) => cut % (whole.length + 1)).sort((a, b) => a - b), whole.length]
        const chunks = at.slice(1).map((end, index) => whole.subarray(at[index]!, end))
        const said = parse([whole])
        assert.deepStrictEqual(parse(chunks), said)
        for (const item of said) if (item._tag === "Event") assert.isAtMost(item.data.length, limit)
      }),
      { numRuns: 500 }
    )
  })

  it("D12: what never ends is not kept", () => {
    const parser = new EventStreamParser(1_000)
    const chunk = bytes("x".repeat(1_000_000))
    parser.push(bytes("id: 5\ndata: "))
    for (let n = 0; n < 20; n++) assert.deepStrictEqual(parser.push(chunk), [])
    assert.isBelow(JSON.stringify(parser).length, 5_000)
    const lines = bytes("data: xxxxxxxxxx\n".repeat(50_000))
    for (let n = 0; n < 20; n++) assert.deepStrictEqual(parser.push(lines), [])
    assert.isBelow(JSON.stringify(parser).length, 5_000)
    assert.deepStrictEqual(parser.push(bytes("\n\ndata: a\n\n")), [tooLarge("5"), event("a")])
  })
})

describe("a position", () => {
  it("is an id that a header can repeat", () => {
    for (const id of ["7", "ä-😀", "a b", "x".repeat(512)]) assert.isTrue(isPosition(id), id)
    for (const id of [undefined, "", " 7", "7 ", "7\t", "a\u0001b", "a\u007f", "x".repeat(513)]) {
      assert.isFalse(isPosition(id), JSON.stringify(id))
    }
  })
})
