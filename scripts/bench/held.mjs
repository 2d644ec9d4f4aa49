// Messages for an endpoint whose plugin is away, on the development cloud: each is durable before the gateway is told. Beside
// it the same bytes appended to a file and flushed as often. Then the mailbox is drained, over a kill; and a start with 100,000,
// beside one with none, a bare server of node, and node that reads that store's file and sums its bytes.
import { spawn, spawnSync } from "node:child_process"
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { open } from "node:fs/promises"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { Effect, Exit, Scope } from "effect"
import { make } from "../../dist/layers/devCloud/DevCloudServer.js"
import { call, openStream, readProcess, row, startBroker, status } from "./kit.mjs"

const base = mkdtempSync(join(process.env.BENCH_DIRECTORY ?? tmpdir(), "runtime-broker-bench-"))
const plugin = spawn("sleep", ["10000"], { stdio: "ignore" })
const content = "x".repeat(500)
const until = async (isSo) => {
  while (!(await isSo())) await new Promise((resolve) => setTimeout(resolve, 2))
}
const ms = (time) => `${time.toFixed(0)} ms`

/** A cloud of its own, and brokers of its account one after the other on one directory. */
const ground = async (name) => {
  const scope = Effect.runSync(Scope.make())
  const cloud = await Effect.runPromise(Scope.extend(make(), scope))
  const directory = join(base, name)
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  const { apiHost, connectorUrl, token } = cloud.accounts.find((account) => account.name === "alice")
  const file = join(directory, "credentials.json")
  writeFileSync(file, JSON.stringify({ accounts: { alice: { connectorUrl, token, apiHost } } }), { mode: 0o600 })
  const settings = {
    MASONS_BROKER_CONNECTOR: "gateway",
    MASONS_BROKER_ACCOUNT_ID: "alice",
    MASONS_BROKER_CREDENTIALS_FILE: file
  }
  return {
    cloud,
    view: () => Effect.runPromise(cloud.view("alice")),
    start: (isPinned) => startBroker(settings, directory, isPinned),
    end: () => Effect.runPromise(Scope.close(scope, Exit.void))
  }
}

/** The plugin comes; `onMessage` hears what is pushed. Gives the stream and the endpoint's id. */
const attach = async (broker, onMessage) => {
  const stream = await openStream(broker, plugin.pid, onMessage)
  const { body } = await call(broker, "POST", "/v1/endpoint/register", {
    agent_id: "alice",
    plugin_pid: plugin.pid,
    kind: "bench"
  })
  return { stream, id: body.endpoint_id }
}

/** A broker with an endpoint whose plugin is away. */
const away = async (broker) => {
  const { id, stream } = await attach(broker, () => undefined)
  stream.terminate()
  await until(async () => (await status(broker)).endpoints[0]?.state === "reconnecting")
  return id
}

/** So many messages at once. Milliseconds until all were accepted. */
const flood = async ({ cloud, view }, id, count) => {
  const started = performance.now()
  for (let n = 0; n < count; n++) {
    await Effect.runPromise(cloud.inject({ account: "alice", endpoint_id: id, content }))
  }
  await until(async () => (await view()).mail.waiting === 0)
  return performance.now() - started
}

const raw = async (count, group) => {
  const file = await open(join(base, "raw"), "w")
  const record = Buffer.from(`${JSON.stringify({ content, metadata: {}, from: "mstp://outside.example/peer" })}\n`)
  const started = performance.now()
  for (let n = 0; n < count; n += group) {
    await file.write(Buffer.concat(Array.from({ length: Math.min(group, count - n) }, () => record)))
    await file.datasync()
  }
  await file.close()
  return performance.now() - started
}

const tenThousand = async () => {
  const count = 10_000
  const one = await ground("flood")
  const broker = await one.start()
  const id = await away(broker)
  await flood(one, id, 1_000)
  const parts = []
  const before = readProcess(broker.pid).cpu
  for (let n = 0; n < count; n += 1_000) parts.push(await flood(one, id, 1_000))
  const cpu = readProcess(broker.pid).cpu - before
  const took = parts.reduce((sum, part) => sum + part, 0)
  row(`${count} to an endpoint that is away`, {
    took: ms(took),
    "msg/s": Math.round((count / took) * 1_000),
    "CPU µs": Math.round((cpu / count) * 1e6)
  })
  row("  each thousand of them, ms", { "": parts.map((part) => part.toFixed(0)).join(" ") })
  const heard = await Effect.runPromise(one.cloud.happened({ account: "alice", event: "DELIVERY_ACK" }))
  const group = Math.ceil((count + 1_000) / heard.length)
  const rawMs = await raw(count, group)
  row(`raw append, fdatasync per ${group}`, { took: ms(rawMs), ratio: (took / rawMs).toFixed(1) })

  await broker.kill()
  const spawned = performance.now()
  const next = await one.start()
  const ready = performance.now()
  let received = 0
  let first
  const attached = performance.now()
  await attach(next, () => {
    first ??= performance.now()
    received++
  })
  await until(() => received >= count + 1_000)
  row("killed with them, and started again", {
    healthy: ms(ready - spawned),
    "first delivery": ms(first - spawned),
    "all drained in": ms(performance.now() - attached),
    missing: count + 1_000 - received
  })
  await next.stop()
  await one.end()
}

/** The middle one, the least and the most. */
const timesOf = (times) => {
  const sorted = times.toSorted((a, b) => a - b)
  const median = sorted[Math.floor(sorted.length / 2)]
  return { median, text: `${ms(median)} (${sorted[0].toFixed(0)}-${ms(sorted.at(-1))})` }
}

const hundredThousand = async () => {
  const count = Number(process.env.MESSAGES ?? 100_000)
  const one = await ground("many")
  const broker = await one.start()
  const id = await away(broker)
  for (let n = 0; n < count; n += 10_000) await flood(one, id, Math.min(10_000, count - n))
  await broker.kill()
  const empty = await ground("empty")

  const startOf = (where, held) => async () => {
    const spawned = performance.now()
    const next = await where.start(false)
    const took = performance.now() - spawned
    const { books } = await status(next)
    if (books.unaccounted !== 0 || books.held !== held) throw new Error(JSON.stringify(books))
    await next.kill()
    return took
  }
  const nodeWith = (script) => async () => {
    const spawned = performance.now()
    spawnSync(process.execPath, ["-e", script])
    return performance.now() - spawned
  }
  const file = join(dirname(broker.discoveryFile), "store", "data.mdb")
  const summing = `require("node:zlib").crc32?.(require("node:fs").readFileSync(${JSON.stringify(file)}))`
  const listening = 'require("node:http").createServer().listen(0, "127.0.0.1", () => process.exit())'
  // One after the other, again and again: the machine may be quicker at one time than at another.
  const starts = [
    { what: `healthy with ${count} held`, take: startOf(one, count), times: [] },
    { what: "beside it, with an empty store", take: startOf(empty, 0), times: [] },
    { what: "node that reads that file and sums its bytes", take: nodeWith(summing), times: [] },
    { what: "a bare server of node", take: nodeWith(listening), times: [] }
  ]
  for (let round = 0; round < 9; round++) for (const { take, times } of starts) times.push(await take())
  const { median: bare } = timesOf(starts.at(-1).times)
  for (const { times, what } of starts) {
    const { median, text } = timesOf(times)
    row(what, { took: text, "of a bare server's": (median / bare).toFixed(1) })
  }
  await one.end()
  await empty.end()
}

await tenThousand()
await hundredThousand()
plugin.kill()
rmSync(base, { recursive: true, force: true })
process.exit(0)
