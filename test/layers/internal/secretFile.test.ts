import * as fs from "node:fs"
import * as path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import {
  readSecretFile,
  removeFile,
  secretDirectory,
  writeSecretFile
} from "../../../src/layers/internal/secretFile.js"
import { complaintOf, modeOf, ownDirectory, setMode } from "../../kit/ground.js"

const isRoot = process.getuid?.() === 0

describe("a secret directory", () => {
  it.scopedLive("is made for this user only, with what is above it", () =>
    Effect.gen(function* () {
      const directory = path.join(yield* ownDirectory, "a", "b")
      yield* secretDirectory(directory)
      assert.strictEqual(modeOf(directory), "700")
      assert.strictEqual(modeOf(path.dirname(directory)), "700")
    })
  )
  it.scopedLive("that is there and open to others is closed to them", () =>
    Effect.gen(function* () {
      const directory = yield* ownDirectory
      for (const mode of [0o755, 0o770, 0o701, 0o777]) {
        setMode(directory, mode)
        yield* secretDirectory(directory)
        assert.strictEqual(modeOf(directory), "700", mode.toString(8))
      }
    })
  )
  it.scopedLive("keeps what is in it", () =>
    Effect.gen(function* () {
      const directory = yield* ownDirectory
      fs.writeFileSync(path.join(directory, "file"), "text")
      yield* secretDirectory(directory)
      assert.deepStrictEqual(fs.readdirSync(directory), ["file"])
    })
  )
  it.scopedLive("is no symbolic link, not even to a directory that would do", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      const link = path.join(base, "link")
      fs.mkdirSync(path.join(base, "real"), { mode: 0o700 })
      fs.symlinkSync(path.join(base, "real"), link)
      assert.include(yield* complaintOf(secretDirectory(link)), link)
      fs.rmSync(link)
      fs.symlinkSync(path.join(base, "nowhere"), link)
      assert.include(yield* complaintOf(secretDirectory(link)), link)
    })
  )
  it.scopedLive("is no file", () =>
    Effect.gen(function* () {
      const file = path.join(yield* ownDirectory, "file")
      fs.writeFileSync(file, "")
      assert.include(yield* complaintOf(secretDirectory(file)), file)
      assert.include(yield* complaintOf(secretDirectory(path.join(file, "below"))), file)
    })
  )
  it.skipIf(!isRoot)("of another user is refused, and stays as it is", () =>
    Effect.gen(function* () {
      const directory = path.join(yield* ownDirectory, "foreign")
      fs.mkdirSync(directory)
      fs.chownSync(directory, 12_345, 12_345)
      setMode(directory, 0o755)
      assert.include(yield* complaintOf(secretDirectory(directory)), "12345")
      assert.strictEqual(modeOf(directory), "755")
    }).pipe(Effect.scoped, Effect.runPromise)
  )
})

describe("a secret file", () => {
  const withFile = <A, E>(test: (file: string, directory: string) => Effect.Effect<A, E>) =>
    Effect.flatMap(ownDirectory, (directory) => test(path.join(directory, "secret.json"), directory))

  it.scopedLive("is written for this user only, and read back", () =>
    withFile((file) =>
      Effect.gen(function* () {
        yield* writeSecretFile(file, "first é")
        assert.strictEqual(modeOf(file), "600")
        assert.strictEqual(yield* readSecretFile(file), "first é")
      })
    )
  )
  it.scopedLive("replaces the one before whole, whatever that was, and leaves nothing else behind", () =>
    withFile((file, directory) =>
      Effect.gen(function* () {
        fs.writeFileSync(file, "a longer text from before")
        setMode(file, 0o644)
        const open = fs.openSync(file, "r")
        yield* writeSecretFile(file, "new")
        assert.strictEqual(fs.readFileSync(open, "utf8"), "a longer text from before", "who had it open keeps it")
        fs.closeSync(open)
        assert.strictEqual(modeOf(file), "600")
        assert.strictEqual(yield* readSecretFile(file), "new")
        assert.deepStrictEqual(fs.readdirSync(directory), ["secret.json"])
      })
    )
  )
  it.scopedLive("replaces a symbolic link, not what it points to", () =>
    withFile((file, directory) =>
      Effect.gen(function* () {
        const other = path.join(directory, "other")
        fs.writeFileSync(other, "precious")
        fs.symlinkSync(other, file)
        yield* writeSecretFile(file, "secret")
        assert.strictEqual(fs.readFileSync(other, "utf8"), "precious")
        assert.isFalse(fs.lstatSync(file).isSymbolicLink())
      })
    )
  )
  it.scopedLive("is whole for every reader while others replace it", () =>
    withFile((file) =>
      Effect.gen(function* () {
        const texts = Array.from({ length: 20 }, (_, n) => String(n).repeat(5_000))
        yield* writeSecretFile(file, texts[0]!)
        const read = Effect.map(readSecretFile(file), (text) => assert.include(texts, text))
        yield* Effect.all(
          texts.flatMap((text) => [writeSecretFile(file, text), read, read]),
          { concurrency: "unbounded" }
        )
      })
    )
  )
  it.scopedLive("that cannot be written says which, and leaves no temporary file", () =>
    withFile((file, directory) =>
      Effect.gen(function* () {
        fs.mkdirSync(file)
        fs.writeFileSync(path.join(file, "inside"), "")
        assert.include(yield* complaintOf(writeSecretFile(file, "text")), file)
        assert.deepStrictEqual(fs.readdirSync(directory), ["secret.json"])
        assert.include(yield* complaintOf(writeSecretFile(path.join(directory, "no", "file"), "text")), "no")
      })
    )
  )
  it.scopedLive("that is not there is no failure", () =>
    withFile((file) =>
      Effect.gen(function* () {
        assert.isUndefined(yield* readSecretFile(file))
        yield* removeFile(file)
      })
    )
  )
  it.scopedLive("is not read through a symbolic link", () =>
    withFile((file, directory) =>
      Effect.gen(function* () {
        const real = path.join(directory, "real")
        yield* writeSecretFile(real, "secret")
        fs.symlinkSync(real, file)
        assert.include(yield* complaintOf(readSecretFile(file)), "symbolic link")
      })
    )
  )
  it.scopedLive("is not read when others may read or write it, and the message says what to do", () =>
    withFile((file) =>
      Effect.gen(function* () {
        yield* writeSecretFile(file, "secret")
        for (const mode of [0o604, 0o640, 0o620, 0o602, 0o644, 0o666]) {
          setMode(file, mode)
          const message = yield* complaintOf(readSecretFile(file))
          assert.include(message, mode.toString(8))
          assert.include(message, "chmod 600")
          assert.notInclude(message, "secret\n")
        }
        setMode(file, 0o400)
        assert.strictEqual(yield* readSecretFile(file), "secret")
      })
    )
  )
  it.scopedLive("is a file", () =>
    withFile((file) =>
      Effect.gen(function* () {
        fs.mkdirSync(file, { mode: 0o700 })
        assert.include(yield* complaintOf(readSecretFile(file)), file)
      })
    )
  )
  it.skipIf(!isRoot)("of another user is not read", () =>
    withFile((file) =>
      Effect.gen(function* () {
        yield* writeSecretFile(file, "secret")
        fs.chownSync(file, 12_345, 12_345)
        assert.include(yield* complaintOf(readSecretFile(file)), "12345")
      })
    ).pipe(Effect.scoped, Effect.runPromise)
  )
  it.scopedLive("is removed, and only it", () =>
    withFile((file, directory) =>
      Effect.gen(function* () {
        yield* writeSecretFile(file, "secret")
        yield* writeSecretFile(`${file}.other`, "secret")
        yield* removeFile(file)
        assert.deepStrictEqual(fs.readdirSync(directory), ["secret.json.other"])
      })
    )
  )
})
