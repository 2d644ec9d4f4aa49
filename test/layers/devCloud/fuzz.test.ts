import { connect } from "node:net"
import { assert, describe, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import { accountOf, call, dev, Runtime, runtime, withCloud } from "./kit.js"

const awkward = fc.oneof(
  fc.string(),
  fc.jsonValue({ maxDepth: 3 }).map((value) => JSON.stringify(value)),
  fc
    .record({
      event: fc.constantFrom("REGISTER", "SEND_MESSAGE", "DELIVERY_ACK", "REQUEST_GAP_FILL", "TYPING", "__proto__"),
      token: fc.jsonValue(),
      protocolVersion: fc.jsonValue(),
      lastKnownSeq: fc.jsonValue(),
      runtimeSessionId: fc.jsonValue(),
      messageId: fc.jsonValue(),
      to: fc.oneof(
        fc.jsonValue(),
        fc.string().map((name) => `mstp://dev/${name}`)
      ),
      content: fc.jsonValue(),
      metadata: fc.jsonValue(),
      upToSeq: fc.oneof(fc.jsonValue(), fc.double()),
      sinceSeq: fc.oneof(fc.jsonValue(), fc.double())
    })
    .map((value) => JSON.stringify(value))
)

/** Bytes on a bare connection; done when the cloud has ended it, or soon. */
const bare = (port: number, bytes: Uint8Array | string) =>
  new Promise<void>((resolve) => {
    const socket = connect(port, "127.0.0.1", () => socket.end(bytes))
    socket.on("error", () => resolve())
    socket.on("close", () => resolve())
    socket.resume()
    setTimeout(() => socket.destroy(), 200)
  })

describe("the development cloud", () => {
  it.live("outlives whatever is sent to it", () =>
    withCloud(async (cloud) => {
      const texts = fc.sample(awkward, { numRuns: 300, seed: 1 })
      const stranger = await new Runtime(accountOf(cloud, "alice")).opened
      const known = await runtime(cloud, "bob")
      for (const text of texts) {
        if (stranger.socket.readyState === stranger.socket.OPEN) stranger.send(text)
        if (known.socket.readyState === known.socket.OPEN) known.send(text)
      }
      for (const text of texts.slice(0, 60)) {
        for (const path of ["/runtime-endpoints", "/runtime/control-ack", "/runtime/undispatched-changed"]) {
          assert.isBelow((await call(cloud, "alice", "POST", path, text)).status, 500)
        }
        for (const path of ["/messages", "/faults", "/control", "/cut", "/modes"]) {
          assert.isBelow((await dev(cloud, "POST", path, text)).status, 500)
        }
      }
      const port = Number(new URL(cloud.url).port)
      const head = "GET /gateway HTTP/1.1\r\nHost: 127.0.0.1\r\n"
      const upgrade = `${head}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n`
      const wire = [
        "\u0000\u0001",
        `${head}\r\n`,
        `${upgrade}\r\n`,
        `${upgrade}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\u00ff\u00ff\u00ff`,
        "GET http://elsewhere/dev HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        "GET //dev HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        "POST /dev/faults HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 50\r\n\r\n{",
        ...fc.sample(fc.uint8Array({ maxLength: 200 }), { numRuns: 30, seed: 2 })
      ]
      await Promise.all(wire.map((bytes) => bare(port, bytes)))

      await dev(cloud, "DELETE", "/faults")
      const last = await runtime(cloud, "alice")
      last.message("still here", "mstp://dev/bob")
      assert.deepInclude(await last.nextOf("SEND_ACK"), { messageId: "still here" })
    })
  )
})
