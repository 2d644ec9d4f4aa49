/** The package as it is published, in a project of its own: types under both resolutions, and a run. */
import { execFile, execFileSync } from "node:child_process"
import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { assert, describe, it } from "@effect/vitest"
import { Effect, type Scope } from "effect"
import { startBroker, temporaryDirectory } from "../../kit/broker.js"

const root = fileURLToPath(new URL("../../..", import.meta.url))
const execute = promisify(execFile)
/** The compiler needs less memory than its garbage collection takes time for. */
const hasty = { ...process.env, GOGC: "off" }

const plain = `
import { BrokerClient, BrokerClientError, discover, type ReceivedMessage } from "runtime-broker/client"

const client: BrokerClient = await discover({
  accountId: "default",
  runtimeToken: "loopback",
  userDataDir: process.argv[2]!,
  launch: false
})
const received: Array<ReceivedMessage> = []
client.onMessage(async (message) => {
  received.push(message)
})
await client.connect({ clientKind: "consumer" })
const { endpoint_id } = await client.registerEndpoint({ agent_id: "consumer", kind: "test" })
const { status } = await client.send(endpoint_id, \`local:consumer/\${endpoint_id}\`, "hello")
const refused = await client.send("nobody", "local:consumer", "hello").catch((error: unknown) => error)
while (received.length === 0) await new Promise((resolve) => setTimeout(resolve, 10))
console.log(JSON.stringify({
  status,
  content: received[0]?.content,
  refused: refused instanceof BrokerClientError && refused.code
}))
await client.close()
// @ts-expect-error a session has a kind
void (() => client.registerEndpoint({ agent_id: "consumer" }))
`

const withEffect = `
import { Chunk, Effect, Stream } from "effect"
import { layer, PluginClient, type PluginClientError } from "runtime-broker/client/effect"

const program: Effect.Effect<string, PluginClientError, PluginClient> = Effect.gen(function* () {
  const client = yield* PluginClient
  const { endpoint_id } = yield* client.register({ agent_id: "effect", kind: "test" })
  yield* client.send({ endpointId: endpoint_id, to: \`local:effect/\${endpoint_id}\`, content: "hello" })
  const [first] = Chunk.toReadonlyArray(yield* Stream.runCollect(Stream.take(client.messages, 1)))
  const refused = yield* Effect.match(client.send({ endpointId: "nobody", to: "local:effect", content: "" }), {
    onFailure: (error) => \`\${error._tag} \${error.code}\`,
    onSuccess: () => "sent"
  })
  return \`\${first?.message.content} \${refused}\`
})
const where = { accountId: "default", runtimeToken: "loopback", userDataDir: process.argv[2]!, launch: false }
console.log(await Effect.runPromise(Effect.provide(program, layer(where))))
`

/** A project with the packed package in its node_modules, and the packages it needs. */
const consumer: Effect.Effect<string, never, Scope.Scope> = Effect.gen(function* () {
  const directory = yield* temporaryDirectory
  // What is built is packed, without building it again.
  const pack = ["pack", "--ignore-scripts", "--json", "--pack-destination", directory]
  execFileSync("npm", pack, { cwd: root, stdio: "pipe", shell: process.platform === "win32" })
  const tarball = readdirSync(directory).find((name) => name.endsWith(".tgz"))!
  const modules = join(directory, "node_modules")
  mkdirSync(modules)
  execFileSync("tar", ["-xzf", join(directory, tarball), "-C", modules])
  execFileSync("mv", [join(modules, "package"), join(modules, "runtime-broker")])
  const needed = ["ws", "effect", "lmdb", "@types/node", "@effect/platform", "@effect/platform-node"]
  for (const name of needed) {
    mkdirSync(dirname(join(modules, name)), { recursive: true })
    symlinkSync(join(root, "node_modules", name), join(modules, name), "junction")
  }
  writeFileSync(join(directory, "package.json"), JSON.stringify({ type: "module" }))
  writeFileSync(join(directory, "plain.ts"), plain)
  writeFileSync(join(directory, "withEffect.ts"), withEffect)
  for (const [moduleResolution, module] of [
    ["node16", "node16"],
    ["bundler", "esnext"]
  ]) {
    const compilerOptions = {
      target: "es2022",
      module,
      moduleResolution,
      strict: true,
      // The declarations themselves are checked once.
      skipLibCheck: moduleResolution === "bundler",
      types: ["node"],
      outDir: join(directory, `out-${moduleResolution}`),
      rootDir: directory
    }
    const project = { compilerOptions, files: ["plain.ts", "withEffect.ts"] }
    writeFileSync(join(directory, `tsconfig.${moduleResolution}.json`), JSON.stringify(project))
  }
  return directory
})

describe("the packed package", () => {
  it.scopedLive(
    "type-checks in a consumer under node16 and bundler, the packages' own declarations included, and runs",
    () =>
      Effect.gen(function* () {
        const directory = yield* consumer
        const compiler = join(root, "node_modules/typescript/bin/tsc")
        for (const resolution of ["node16", "bundler"]) {
          const project = join(directory, `tsconfig.${resolution}.json`)
          const compiled = yield* Effect.promise(() =>
            execute(process.execPath, [compiler, "-p", project], { env: hasty }).catch(({ stdout }) => ({ stdout }))
          )
          assert.strictEqual(compiled.stdout, "", resolution)
        }
        const { userData } = yield* startBroker()
        const run = (file: string) =>
          Effect.promise(() =>
            execute(process.execPath, [join(directory, "out-node16", file), userData], { timeout: 30_000 })
          )
        assert.deepStrictEqual(JSON.parse((yield* run("plain.js")).stdout), {
          status: "delivered",
          content: "hello",
          refused: "unknown_endpoint"
        })
        assert.strictEqual((yield* run("withEffect.js")).stdout, "hello PluginClientError unknown_endpoint\n")
      }),
    120_000
  )
})
