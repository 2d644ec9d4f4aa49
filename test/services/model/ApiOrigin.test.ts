import { assert, describe, it } from "@effect/vitest"
import { apiOrigin, defaultApiHost, refuseAddresses } from "../../../src/services/model/ApiOrigin.js"

describe("the origin of an API host", () => {
  it("is https unless it says otherwise, without trailing slashes", () => {
    const origins = {
      [defaultApiHost]: "https://preview-api.masons.ai",
      "api.example": "https://api.example",
      "api.example:8443///": "https://api.example:8443",
      "https://api.example/": "https://api.example",
      "HTTPS://api.example": "HTTPS://api.example",
      "http://localhost:8080": "http://localhost:8080",
      "https://api.example/base/": "https://api.example/base",
      " api.example ": "https://api.example",
      "ftp://api.example": "https://ftp://api.example"
    }
    for (const [host, origin] of Object.entries(origins)) assert.strictEqual(apiOrigin(host), origin)
  })
})

describe("addresses", () => {
  const gateway = "wss://gw.example/gateway"
  const refusal = (origin: string, connectorUrl: string) => refuseAddresses(origin, connectorUrl)

  it("may be any that are encrypted, and any on this machine", () => {
    for (const [origin, connectorUrl] of [
      ["https://api.example", gateway],
      ["HTTPS://API.example:1/base", "wss://gw.example:444/any/path?query=1"],
      ["https://[2001:db8::1]", "WSS://[2001:db8::1]/gateway"],
      ...["localhost", "127.0.0.1", "127.9.8.7", "[::1]", "127.1"].map((host) => [
        `http://${host}:8080`,
        `ws://${host}:8081/gateway`
      ])
    ]) {
      assert.isUndefined(refusal(origin!, connectorUrl!), `${origin} ${connectorUrl}`)
    }
  })

  it("anywhere else are encrypted", () => {
    for (const host of [
      "api.example",
      "10.0.0.1",
      "192.168.1.2",
      "128.0.0.1",
      "[::2]",
      "localhost.example",
      "0.0.0.0"
    ]) {
      const api = refusal(`http://${host}:8080`, gateway)
      assert.strictEqual(api?.of, "apiHost")
      assert.include(api!.why, `${host}:8080`)
      assert.include(api!.why, "https://")
      const connector = refusal("https://api.example", `ws://${host}/gateway`)
      assert.strictEqual(connector?.of, "connectorUrl")
      assert.include(connector!.why, "wss://")
    }
  })

  it("of the gateway are not those of the web site, where the platform is known", () => {
    const expected = {
      "api.masons.ai": "wss://connectorapi.masons.ai/gateway",
      "preview-api.masons.ai": "wss://preview-connectorapi.masons.ai/gateway"
    }
    for (const [api, right] of Object.entries(expected)) {
      for (const origin of [`https://${api}`, `https://${api.toUpperCase()}:443`]) {
        for (const host of ["masons.ai", "preview.masons.ai", "Masons.AI"]) {
          const found = refusal(origin, `wss://${host}/gateway`)
          assert.strictEqual(found?.of, "connectorUrl")
          assert.include(found!.why, right)
          assert.include(found!.why, host.toLowerCase())
        }
        for (const host of ["connectorapi.masons.ai", "preview-connectorapi.masons.ai", "x.masons.ai", "gw.example"]) {
          assert.isUndefined(refusal(origin, `wss://${host}/gateway`))
        }
      }
    }
    assert.isUndefined(refusal("https://api.example", "wss://masons.ai/gateway"))
    assert.isUndefined(refusal("https://constructor", "wss://masons.ai/gateway"))
  })

  it("are addresses, with nothing in them that would be lost or shown", () => {
    for (const origin of ["https://", "https://a b", "https://ftp://x", "https://x:99999"]) {
      assert.strictEqual(refusal(origin, gateway)?.of, "apiHost", origin)
    }
    for (const origin of [
      "https://u:secret@x",
      "https://secret@x",
      "https://x?secret",
      "https://x#secret",
      "https://x/?a=secret"
    ]) {
      const found = refusal(origin, gateway)
      assert.strictEqual(found?.of, "apiHost", origin)
      assert.notInclude(found!.why, "secret")
    }
    for (const url of [
      "",
      "secret",
      "gw.example/gateway",
      "https://gw.example",
      "wss://",
      "wss://x/#secret",
      "ws:x y"
    ]) {
      const found = refusal("https://api.example", url)
      assert.strictEqual(found?.of, "connectorUrl", url)
      assert.notInclude(found!.why, "secret")
    }
  })
})
