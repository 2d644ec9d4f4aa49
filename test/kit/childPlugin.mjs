// A plugin in a process of its own: it can be stopped and killed as a whole. Opens a stream, registers, acknowledges and tells
// its parent; when the stream ends it does so again.
import { WebSocket } from "ws"

const [url, token, agent] = process.argv.slice(2)
const headers = {
  authorization: `Bearer ${token}`,
  "x-plugin-pid": String(process.pid),
  "x-masons-ipc-capabilities": "push_receipt_ack_v1"
}

const register = async () => {
  const body = JSON.stringify({ agent_id: agent, plugin_pid: process.pid, kind: "child" })
  const response = await fetch(`${url}/v1/endpoint/register`, { method: "POST", headers, body })
  const { endpoint_id } = await response.json()
  process.send({ registered: endpoint_id })
}

const open = () => {
  const stream = new WebSocket(`${url.replace("http", "ws")}/v1/stream`, { headers })
  const fail = () => stream.terminate()
  stream.on("open", () => register().catch(fail))
  stream.on("message", (data) => {
    const { content, push_id } = JSON.parse(data)
    if (push_id === undefined) return
    process.send({ content })
    stream.send(JSON.stringify({ event: "push_ack", push_id }))
  })
  stream.on("unexpected-response", (_, response) => {
    process.send({ refused: response.statusCode })
    fail()
  })
  stream.on("error", () => undefined)
  stream.on("close", () => setTimeout(open, 20))
}

open()
process.on("disconnect", () => process.exit())
