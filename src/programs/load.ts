/**
 * Runs a bundled program with the code that V8 made of it when it was built: it starts in two thirds of the time. That code is
 * for one version of V8; others compile the bundle as ever, and keep what they made where node does that by itself.
 */
import { existsSync, readFileSync } from "node:fs"
import * as nodeModule from "node:module"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { constants, Script } from "node:vm"

const directory = fileURLToPath(new URL("bundle", import.meta.url))

/** Where the code of a bundled file is kept. */
export const codeFile = (file: string): string =>
  `${file}.${process.versions.v8}-${process.platform}-${process.arch}.code`

/** What was loaded, by file. */
export const scripts = new Map<string, Script>()
const modules = new Map<string, { exports: unknown }>()

type Body = (exports: unknown, require: unknown, module: object, filename: string, directory: string) => void

/** `directory` holds nothing but bundled files, which require each other and what lies in node_modules. */
const run = (file: string): unknown => {
  const known = modules.get(file)
  if (known !== undefined) return known.exports
  const module = { exports: {} as unknown }
  modules.set(file, module)
  // ASCII throughout (`scripts/build`), so V8 keeps it as bytes.
  const source = readFileSync(file, "latin1")
  const script = new Script(`(function (exports, require, module, __filename, __dirname) {${source}\n})`, {
    filename: file,
    importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
    ...(existsSync(codeFile(file)) ? { cachedData: readFileSync(codeFile(file)) } : {})
  })
  scripts.set(file, script)
  const native = nodeModule.createRequire(file)
  const require = Object.assign((id: string) => (id.startsWith(".") ? run(path.join(directory, id)) : native(id)), {
    resolve: native.resolve
  })
  const body: Body = script.runInThisContext()
  body(module.exports, require, module, file, directory)
  return module.exports
}

/** Runs the program of that name, with its kept code unless told otherwise. */
export const load = (name: string, withCode = existsSync(codeFile(path.join(directory, `${name}.cjs`)))): void => {
  const file = path.join(directory, `${name}.cjs`)
  if (withCode) {
    run(file)
    return
  }
  const { enableCompileCache } = nodeModule as { readonly enableCompileCache?: () => unknown }
  enableCompileCache?.()
  nodeModule.createRequire(file)(file)
}
