// A process in which several plugins look for the broker at once: prints what each of them found, and the time it took.
const { callers, options } = JSON.parse(process.argv[2])
const began = performance.now()
const { findOrLaunch } = await import("../../dist/programs/client/launch.js")
const results = await Promise.all(
  Array.from({ length: callers }, () =>
    findOrLaunch(options).then(
      (found) => ({ found, ms: performance.now() - began }),
      ({ code, exitCode, message, output }) => ({
        error: { code, exitCode, message, output },
        ms: performance.now() - began
      })
    )
  )
)
process.stdout.write(JSON.stringify(results))
