/** Disks that are full, fail or are read-only: what is decided waits, in order, and is stored when the disk works again. */
import { rmSync, writeFileSync } from "node:fs"
import * as path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Store, table } from "../../src/services/Store.js"
import { StoreReport } from "../../src/services/StoreReport.js"
import { dist } from "../kit/broker.js"
import { ownDirectory } from "../kit/ground.js"
import { bundled, Child, promised, storeAt } from "../kit/lmdbStore.js"
import { canPreload, compiled, unlessPreloadable, works } from "../kit/preload.js"

const hasNamespaces = works("unshare", ["-rm", "sh", "-c", "mount -t tmpfs -o size=1m tmpfs /mnt"])

const isNumber = (line: string) => /^\d+$/.test(line)
const isFailing = (line: string) => line.startsWith("failing ")

/** What it said is durable follows one another without a gap. */
const assertInOrder = (child: Child) => {
  const numbers = child.lines.filter(isNumber).map(Number)
  assert.deepStrictEqual(
    numbers,
    Array.from(numbers, (_, at) => numbers[0]! + at)
  )
}

describe(`a disk in a namespace of its own${hasNamespaces ? "" : " (skipped: unshare -rm is forbidden here)"}`, () => {
  it.scopedLive.runIf(hasNamespaces)("that fills up: nothing is stored meanwhile, all of it afterwards", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      const program = yield* promised(() => bundled("test/kit/storeChild.ts"))
      const script = [
        'mount -t tmpfs -o size=4m,mode=700 tmpfs "$1"',
        'head -c 3200k /dev/zero > "$1/ballast"',
        '"$2" "$3" commit "$1" & node=$!',
        "read line",
        'rm "$1/ballast"',
        "read line",
        "kill -9 $node; wait $node",
        '"$2" "$3" verify "$1"'
      ].join("\n")
      const child = new Child("unshare", ["-rm", "sh", "-c", script, "sh", base, process.execPath, program])
      const failing = yield* promised(() => child.find(0, isFailing))
      assert.match(child.lines[failing]!, /^failing writing .*data\.mdb failed: .*space/i)
      yield* Effect.sleep("300 millis")
      const stored = child.lines.filter(isNumber).length
      yield* Effect.sleep("200 millis")
      assert.strictEqual(child.lines.filter(isNumber).length, stored)
      child.send("")
      const healthy = yield* promised(() => child.find(failing, (line) => line === "healthy"))
      yield* promised(() => child.find(healthy + 200, isNumber))
      child.send("")
      const verified = yield* promised(() => child.find(healthy, (line) => line.startsWith("{")))
      assert.deepInclude(JSON.parse(child.lines[verified]!), { isSound: true, problems: [] })
      assertInOrder(child)
      yield* promised(() => child.kill())
    })
  )

  it.scopedLive.runIf(hasNamespaces)(
    "with less room than one commit needs: it is said to be full, left as it was, and heals",
    () =>
      Effect.gen(function* () {
        const base = yield* ownDirectory
        const program = yield* promised(() => bundled("test/kit/storeChild.ts"))
        const script = [
          'mount -t tmpfs -o size=24m,mode=700 tmpfs "$1"',
          '"$2" "$3" large "$1" & node=$!',
          "read line",
          'mount -o remount,size=64m "$1"',
          "read line",
          "kill -9 $node; wait $node",
          '"$2" "$3" verify "$1"'
        ].join("\n")
        const child = new Child("unshare", ["-rm", "sh", "-c", script, "sh", base, process.execPath, program])
        const { free, reason } = JSON.parse((yield* promised(() => child.line(0)))!)
        assert.match(reason, /^writing .*data\.mdb failed: ENOSPC: no space left/)
        assert.isAbove(free, 20 * 2 ** 20)
        child.send("")
        assert.strictEqual(yield* promised(() => child.line(1)), "durable")
        child.send("")
        const verified = JSON.parse((yield* promised(() => child.line(2)))!)
        assert.deepInclude(verified, { isSound: true, problems: [], records: 24 })
        yield* promised(() => child.kill())
      })
  )

  it.scopedLive.runIf(hasNamespaces)("that is read-only: the start is refused with a sentence, the tools read on", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      const program = yield* promised(() => bundled("test/kit/storeChild.ts"))
      const script = [
        'mount -t tmpfs -o size=16m,mode=700 tmpfs "$1"',
        '"$2" "$3" verify "$1"',
        'mount -o remount,ro "$1"',
        '"$2" "$3" verify "$1"'
      ].join("\n")
      const child = new Child("unshare", ["-rm", "sh", "-c", script, "sh", base, process.execPath, program])
      yield* promised(() => child.ended)
      const [made, read] = child.lines.map((line) => JSON.parse(line))
      assert.isUndefined(made.started)
      assert.deepInclude(read, { isSound: true, records: 1 })
      assert.match(read.started, /^The store .* cannot be opened: .*read-only/)
    })
  )
})

describe("a disk that cannot be written", () => {
  it.scopedLive.runIf(hasNamespaces)(
    "is read by the commands that only read, without a lock unless somebody has it",
    () =>
      Effect.gen(function* () {
        const base = yield* ownDirectory
        const program = yield* promised(() => bundled("test/kit/storeChild.ts"))
        const script = [
          'mount -t tmpfs -o size=4m,mode=700 tmpfs "$1"',
          '"$2" "$3" verify "$1" > /dev/null',
          'store() { "$2" "$4" store "$5" --directory "$1/identity"; echo "$5 ended with $?"; }',
          'head -c 8m /dev/zero > "$1/ballast" 2> /dev/null',
          'store "$@" inspect 2>&1',
          'mount -o remount,ro "$1"',
          'for command in inspect verify export compact; do store "$@" $command 2>&1; done',
          'mount -o remount,rw "$1"; rm "$1/ballast"',
          'echo "{\\"version\\":1,\\"pid\\":$$,\\"startedAs\\":null,\\"bootId\\":null,\\"mark\\":\\"\\"}" > "$1/identity/broker.lock"',
          'chmod 600 "$1/identity/broker.lock"; mount -o remount,ro "$1"',
          'store "$@" inspect 2>&1'
        ].join("\n")
        const args = ["sh", base, process.execPath, program, dist("programs/cli.js")]
        const child = new Child("unshare", ["-rm", "sh", "-c", script, ...args])
        yield* promised(() => child.ended)
        const ends = child.lines.filter((line) => line.includes(" ended with "))
        const said = (why: RegExp) =>
          child.lines.filter((line) => /^The lock .* cannot be taken: /.test(line) && why.test(line))
        assert.deepStrictEqual(
          ends.map((line) => line.replace(" ended with", "")),
          ["inspect 0", "inspect 0", "verify 0", "export 0", "compact 1", "inspect 1"],
          child.lines.join("\n")
        )
        assert.lengthOf(said(/ENOSPC.* The files are read all the same/), 1)
        assert.lengthOf(said(/EROFS.* The files are read all the same/), 3)
        assert.lengthOf(said(/EROFS/), 4)
        assert.match(child.lines.at(-2)!, /already running as process/)
      })
  )
})

describe(`a failing disk${unlessPreloadable}`, () => {
  const kinds = { m: "meta pages", w: "writes", s: "flushes" }
  for (const [kind, what] of Object.entries(kinds)) {
    it.scopedLive.runIf(canPreload)(`whose ${what} fail: what waits is stored in order once it works`, () =>
      Effect.gen(function* () {
        const base = yield* ownDirectory
        const program = yield* promised(() => bundled("test/kit/storeChild.ts"))
        const flag = path.join(base, "failing")
        const child = new Child(process.execPath, [program, "commit", base], {
          LD_PRELOAD: yield* compiled("test/faults/failingDisk.c"),
          FAILING_DISK: flag
        })
        yield* promised(() => child.find(20, isNumber))
        writeFileSync(flag, kind)
        const failing = yield* promised(() => child.find(0, isFailing))
        assert.match(child.lines[failing]!, /^failing writing .*data\.mdb failed: .*(error|EIO|PANIC)/i)
        yield* Effect.sleep("400 millis")
        rmSync(flag)
        const healthy = yield* promised(() => child.find(failing, (line) => line === "healthy"))
        yield* promised(() => child.find(healthy + 50, isNumber))
        yield* promised(() => child.kill())
        assertInOrder(child)
        yield* Effect.gen(function* () {
          const { salvaged, setAside } = (yield* StoreReport).opened
          assert.deepStrictEqual([salvaged, setAside], [undefined, {}])
          const latest = (yield* Store).unsafeGet(table<number>("latest", 1), "latest")!
          assert.isAtLeast(latest, Number(child.lines.filter(isNumber).pop()))
        }).pipe(Effect.provide(storeAt(base)))
      })
    )
  }
})
