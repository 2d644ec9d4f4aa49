/** Why no broker was found or started. */
import { BrokerClientError } from "./errors.js"

export type LaunchErrorCode =
  /** None runs, and none was to be started. */
  | "broker_not_found"
  /** It was started and ended, or could not be started. */
  | "broker_start_failed"
  /** It did not become usable in the time that was given; it may still do so. */
  | "broker_start_timeout"
  /** Something is there that is neither usable nor to be replaced. */
  | "broker_not_usable"

export interface LaunchFailure {
  readonly code: LaunchErrorCode
  /** What is wrong and what to do, in sentences. */
  readonly message: string
  /** Of the process that was started and has ended. */
  readonly exitCode?: number | undefined
  /** The end of what it wrote. */
  readonly output?: string | undefined
}

/** No usable broker. */
export class BrokerLaunchError extends BrokerClientError {
  readonly exitCode: number | undefined
  readonly output: string | undefined
  constructor({ code, exitCode, message, output }: LaunchFailure) {
    super(message, code, code === "broker_not_found" || code === "broker_start_timeout")
    this.exitCode = exitCode
    this.output = output
  }
}

/** What failed is told as an error of the launcher. */
export const notUsable = (error: unknown): BrokerLaunchError =>
  new BrokerLaunchError({ code: "broker_not_usable", message: (error as Error).message })
