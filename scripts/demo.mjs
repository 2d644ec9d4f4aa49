// A broker on the loopback network and two plugin processes, talking: `npm run demo`.
import { fork, spawn } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"

const here = (path) => fileURLToPath(new URL(path, import.meta.url))
const directory = mkdtempSync(join(tmpdir(), "runtime-broker-demo-"))
const isTerminal = process.stdout.isTTY
const paint = (code, text) => (isTerminal ? `\x1b[${code}m${text}\x1b[0m` : text)
const short = (id) => (id.length > 14 ? `${id.slice(0, 11)}…` : id)

const title = (text) => console.log(`\n${paint("1", text)}`)
const line = (who, arrow, text) => console.log(`  ${paint("36", who.padEnd(6))} ${arrow} ${text}`)
const note = (text) => console.log(`           ${paint("2", text)}`)

// -- the broker --------------------------------------------------------------------------------------------------------

const broker = spawn(process.execPath, [here("../dist/programs/broker.js")], {
  env: { ...process.env, MASONS_BROKER_CONNECTOR: "loopback", MASONS_BROKER_USER_DATA: directory },
  stdio: ["ignore", "pipe", "inherit"]
})
const events = createInterface({ input: broker.stdout })
const ready = await new Promise((resolve, reject) => {
  events.once("line", (text) => resolve(JSON.parse(text)))
  broker.once("exit", (code) => reject(new Error(`the broker ended with ${code}`)))
})

// -- a plugin process --------------------------------------------------------------------------------------------------

const startPlugin = (name) => {
  const child = fork(here("./demo/plugin.mjs"), [ready.discoveryFile, name])
  const answers = new Map()
  const frames = []
  const waiting = []
  let last = 0
  child.on("message", ({ frame, id, result }) => {
    if (id !== undefined) return answers.get(id)(result)
    if (frame.event !== "message_received") return
    const resolve = waiting.shift()
    if (resolve === undefined) frames.push(frame)
    else resolve(frame)
  })
  return {
    name,
    pid: child.pid,
    do: (what, given) =>
      new Promise((resolve) => {
        answers.set(++last, resolve)
        child.send({ id: last, what, given })
      }),
    next: () => (frames.length > 0 ? Promise.resolve(frames.shift()) : new Promise((resolve) => waiting.push(resolve))),
    ended: new Promise((resolve) => child.once("exit", resolve))
  }
}

const register = async (plugin) => {
  const { body } = await plugin.do("register")
  plugin.endpoint = body.endpoint_id
  line(plugin.name, "→", `opens /v1/stream, POST /v1/endpoint/register    ${short(body.endpoint_id)}`)
}

const send = async (plugin, to, content, metadata) => {
  const { body, status } = await plugin.do("send", { to, content, ...(metadata ? { metadata } : {}) })
  const shown = to.replace(/ep_[^/]*/, (id) => short(id))
  line(plugin.name, "→", `POST /v1/send to ${shown}: "${content}"    ${status} ${body.status ?? body.error}`)
  if (status !== 200) throw new Error(body.message)
}

const receive = async (plugin) => {
  const frame = await plugin.next()
  line(plugin.name, "←", `from ${frame.from}: "${frame.content}"`)
  return frame
}

const expect = (what, isTrue) => {
  if (!isTrue) throw new Error(`the demo did not go as it should: ${what}`)
}

// -- the story ---------------------------------------------------------------------------------------------------------

try {
  title(`${ready.version} listens on ${ready.url} (process ${ready.pid})`)
  const alice = startPlugin("alice")
  const bob = startPlugin("bob")
  await register(alice)
  await register(bob)

  title("A question and its answer")
  await send(alice, `local:bob/${bob.endpoint}`, "What is six times seven?")
  const question = await receive(bob)
  const { correlation_id } = question.metadata
  note(`correlation id ${short(correlation_id)}; bob answers under it, and names no endpoint`)
  await send(bob, "local:alice", "Forty-two.", { in_reply_to: correlation_id })
  const answer = await receive(alice)
  expect("the answer carries the id of the question", answer.metadata.correlation_id === correlation_id)
  note("the broker found the endpoint that asked")

  title("bob loses its channel while mail arrives")
  await bob.do("drop")
  line("bob", "✗", "its stream is cut; the endpoint waits for it")
  for (const n of ["first", "second", "third"]) await send(alice, `local:bob/${bob.endpoint}`, n)
  const { body } = await bob.do("reattach")
  line("bob", "→", `POST /v1/endpoint/…/reattach    ${body.reconnecting_buffer_count} messages waited`)
  for (const n of ["first", "second", "third"]) {
    expect("mail comes in order", (await receive(bob)).content === n)
  }

  title("A message for nobody in particular")
  await send(alice, "local:bob", "Is anybody free to review my change?")
  const { items } = (await bob.do("list")).body
  line("bob", "→", `GET /v1/undispatched    ${items.length} message, ${items[0].reason}: "${items[0].content}"`)
  await bob.do("dispatch", { undispatched_id: items[0].id, target_endpoint_id: bob.endpoint })
  line("bob", "→", "POST /v1/dispatch    to its own endpoint")
  const dispatched = await receive(bob)
  expect("it is marked as dispatched", dispatched.metadata.dispatched_by === "passport")

  title("Everybody leaves")
  await Promise.all([alice.do("leave"), bob.do("leave")])
  await Promise.all([alice.ended, bob.ended])
} finally {
  broker.kill("SIGTERM")
  await new Promise((resolve) => broker.once("exit", resolve))
  console.log(`  broker   left with code ${broker.exitCode}\n`)
  rmSync(directory, { recursive: true, force: true })
}
