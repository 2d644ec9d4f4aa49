/** JSON that is almost what a route or a frame takes. */
import type { Random } from "./Random.js"

/** Stands for this text in the JSON, which need not be JSON. */
class Verbatim {
  readonly text: string
  constructor(text: string) {
    this.text = text
  }
}

const nested = (open: string, inner: string, close: string, depth: number) =>
  new Verbatim(open.repeat(depth) + inner + close.repeat(depth))

const strings: ReadonlyArray<string> = [
  "",
  " ",
  "x",
  "1",
  "null",
  "__proto__",
  "constructor",
  "toString",
  "\u0000",
  "\r\nX-Injected: 1",
  "../../etc/passwd",
  "%00%zz",
  "ep_nobody",
  "local:",
  "local:%",
  "local:a/b/c",
  "mstp://a/b",
  "🙂".repeat(100),
  "\u202e\ufeff",
  "2024-01-01T00:00:00Z",
  "9".repeat(400)
]

const keys: ReadonlyArray<string> = [
  ...["__proto__", "constructor", "prototype", "toString", "hasOwnProperty", "then", "toJSON", "", "length"],
  ...["metadata", "resume", "workspace", "runtime_capabilities", "contentType", "require_live", "idempotency_key"],
  ...["correlation_id", "target_endpoint_id", "source_endpoint_id", "in_reply_to", "traceparent", "expires_at"],
  ...["dispatched_by", "store", "session_name", "runtime_session_id", "spawn_token", "started_at", "event", "push_id"]
]

const oddNumbers = ["1e400", "-1e400", "1e-400", "-0", "0", "-1", "1.5", "9007199254740993", "4294967296", "2147483648"]

/** A value where another was expected. */
export const oddValue = (random: Random, depth = 0): unknown =>
  random.weighted<() => unknown>([
    [4, () => random.pick([null, true, false, [], {}])],
    [4, () => new Verbatim(random.pick(oddNumbers))],
    [4, () => random.pick(strings)],
    [2, () => new Verbatim(random.pick(['"\\ud800"', '"\\udc00\\ud800"', '"\\u0000"', '"a\\ud83d"']))],
    [1, () => "x".repeat(random.pick([129, 257, 1_025, 5_000, 40_000]))],
    [1, () => nested("[", "", "]", random.pick([2, 63, 64, 65, 300, 5_000]))],
    [1, () => nested('{"a":', "1", "}", random.pick([2, 62, 63, 64, 65, 300, 5_000]))],
    [1, () => nested('{"__proto__":', "{}", "}", random.pick([1, 2, 60]))],
    [1, () => Array.from({ length: random.below(500) }, (_, n) => n)],
    [depth < 3 ? 3 : 0, () => random.some(4, () => oddValue(random, depth + 1))],
    [depth < 3 ? 4 : 0, () => entriesOf(random.some(4, () => [random.pick(keys), oddValue(random, depth + 1)]))]
  ])()

/** An object as its entries, so that a key can come twice or be `__proto__`. */
class Entries {
  readonly list: Array<readonly [string, unknown]>
  constructor(list: ReadonlyArray<readonly [string, unknown]>) {
    this.list = [...list]
  }
}
const entriesOf = (list: ReadonlyArray<readonly [string, unknown]>) => new Entries(list)

const write = (value: unknown): string => {
  if (value instanceof Verbatim) return value.text
  if (value instanceof Entries) {
    return `{${value.list.map(([key, inner]) => `${JSON.stringify(key)}:${write(inner)}`).join(",")}}`
  }
  if (Array.isArray(value)) return `[${value.map(write).join(",")}]`
  if (typeof value === "object" && value !== null) return write(entriesOf(Object.entries(value)))
  return JSON.stringify(value) ?? "null"
}

/** The object with some of its fields wrong, missing, doubled, or others beside them. */
const mutateFields = (random: Random, object: object): Entries => {
  const entries = entriesOf(Object.entries(object))
  const { list } = entries
  const at = () => random.below(list.length)
  for (let n = random.below(4); n > 0; n--) {
    random.weighted<() => void>([
      [4, () => list.length > 0 && list.splice(at(), 1, [list[at()]![0], oddValue(random)])],
      [2, () => list.length > 0 && list.splice(at(), 1)],
      [4, () => list.push([random.pick(keys), oddValue(random)])],
      [1, () => list.length > 0 && list.push(list[at()]!)],
      [1, () => list.length > 1 && list.push([list[at()]![0], list[at()]![1]])],
      [1, () => list.length > 0 && list.push([list[at()]![0], entriesOf([list[at()]!])])]
    ])()
  }
  return entries
}

/** Text that is no JSON any more, or bytes that are no text. */
const spoil = (random: Random, text: string): Buffer => {
  const at = random.below(text.length + 1)
  const spliced = (inserted: string, removed = 0) =>
    Buffer.from(text.slice(0, at) + inserted + text.slice(at + removed))
  return random.weighted<() => Buffer>([
    [2, () => Buffer.from(text.slice(0, at))],
    [2, () => spliced(random.pick([",", ":", "{", "]", '"', "\\", "NaN", "//", "\u0000", "'"]))],
    [2, () => spliced("", 1 + random.below(4))],
    [1, () => Buffer.from(`\ufeff${text}`)],
    [1, () => Buffer.from(text + random.pick([text, "x", "\u0000", "}"]))],
    [2, () => Buffer.concat([Buffer.from(text.slice(0, at)), random.bytes(4), Buffer.from(text.slice(at))])],
    [1, () => random.bytes(random.below(200))]
  ])()
}

/** JSON made of the object; often as it is, mostly JSON, sometimes neither. */
export const almostJson = (random: Random, object: object): Buffer => {
  const text = random.weighted<() => string>([
    [8, () => write(mutateFields(random, object))],
    [2, () => JSON.stringify(object)],
    [1, () => write(oddValue(random))]
  ])()
  return random.chance(0.15) ? spoil(random, text) : Buffer.from(text)
}
