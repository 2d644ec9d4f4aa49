// 100,000 messages to 1,000 endpoints on 20 channels: memory stays where it is after warm-up, and finding the endpoint of a
// correlation id costs what it costs with one endpoint. Each endpoint keeps 16 correlation ids (`CORRELATIONS`), so that the warm-up
// fills what is kept; with the default of 4,096 memory would rise until a thousand endpoints have millions of them.
import { call, inParallel, openStream, readProcess, row, startBroker, status } from "./kit.mjs"

const messages = Number(process.env.MESSAGES ?? 100_000)

const measure = async (endpointCount, channelCount) => {
  const broker = await startBroker({ MASONS_BROKER_CORRELATIONS: process.env.CORRELATIONS ?? "16" })
  let received = 0
  const inbox = new Map()
  const pids = Array.from({ length: channelCount }, (_, n) => 2_000_000 + n)
  for (const pid of pids) {
    await openStream(broker, pid, ({ metadata, content }) => {
      received++
      if (content.startsWith("open")) inbox.set(content, metadata.correlation_id)
    })
  }
  const endpoints = []
  await inParallel(endpointCount, 16, async (n) => {
    const pid = pids[n % channelCount]
    const { body } = await call(broker, "POST", "/v1/endpoint/register", {
      agent_id: `agent-${n}`,
      plugin_pid: pid,
      kind: "bench",
      session_name: `session ${n}`
    })
    endpoints[n] = body.endpoint_id
  })
  const send = (from, to, content, metadata = {}) =>
    call(broker, "POST", "/v1/send", { endpoint_id: endpoints[from], to, content, metadata })

  const timed = async (name, count, task) => {
    const before = readProcess(broker.pid)
    const receivedBefore = received
    const started = performance.now()
    await inParallel(count, 32, task)
    while (received - receivedBefore < count) await new Promise((resolve) => setTimeout(resolve, 5))
    const seconds = (performance.now() - started) / 1000
    const after = readProcess(broker.pid)
    row(`${name}, ${endpointCount} endpoints`, {
      "msg/s": Math.round(count / seconds),
      "CPU µs": Math.round(((after.cpu - before.cpu) / count) * 1e6),
      "RSS MiB": after.rss.toFixed(0)
    })
  }

  // Conversations: each endpoint asks its neighbour; the answers find their way back by correlation id.
  const peer = (n) => (n + 1) % endpointCount
  const openConversations = async () => {
    inbox.clear()
    await inParallel(endpointCount, 32, (n) => send(n, `local:agent-${peer(n)}/${endpoints[peer(n)]}`, `open ${n}`))
    while (inbox.size < endpointCount) await new Promise((resolve) => setTimeout(resolve, 5))
  }

  const part = messages / 5
  const byTarget = (n) => {
    const to = (n * 7) % endpointCount
    return send((n * 3) % endpointCount, `local:agent-${to}/${endpoints[to]}`, `message ${n}`)
  }
  const byCorrelation = (n) => {
    const asker = (n * 7) % endpointCount
    const from = peer(asker)
    return send(from, `local:agent-${asker}`, `answer ${n}`, { in_reply_to: inbox.get(`open ${asker}`) })
  }
  await timed("warm-up, by target", part, byTarget)
  await timed("by target", part, byTarget)
  await openConversations()
  await timed("by correlation id", part, byCorrelation)
  await timed("by correlation id", part, byCorrelation)
  await timed("by target", part, byTarget)
  const { books } = await status(broker)
  row("books", books)
  await broker.stop()
}

await measure(2, 2)
await measure(1_000, 20)
process.exit(0)
