import { randomBytes, randomUUID } from "node:crypto"
import { PushId } from "../../services/model/Ids.js"
import { type TraceContext, traceFrom } from "../../services/model/TraceContext.js"

export const mintUuid = (): string => randomUUID()

export const mintPushId = (): PushId => PushId(`push_${randomUUID()}`)

export const mintTrace = (): TraceContext => traceFrom(randomBytes(24).toString("hex"))
