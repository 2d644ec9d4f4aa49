/** The HTTP surface of the broker: the one description server, clients, CLI and OpenAPI document are made from. */
import { HttpApi, OpenApi } from "@effect/platform"
import * as Errors from "../model/Errors.js"
import { version } from "../model/Version.js"
import { DeadLetterGroup } from "./DeadLetterGroup.js"
import { EndpointGroup } from "./EndpointGroup.js"
import { HealthGroup } from "./HealthGroup.js"
import { MessageGroup } from "./MessageGroup.js"
import { OperatorGroup } from "./OperatorGroup.js"
import { withoutDecodeError, withPassedOn } from "./openApi.js"
import { StoreGroup } from "./StoreGroup.js"

export class IpcApi extends HttpApi.make("runtime-broker")
  .add(HealthGroup)
  .add(EndpointGroup)
  .add(MessageGroup)
  .add(OperatorGroup)
  .add(DeadLetterGroup)
  .add(StoreGroup)
  .addError(Errors.onWire(Errors.BadRequest))
  .addError(Errors.onWire(Errors.HostNotAllowed))
  .addError(Errors.onWire(Errors.OriginNotAllowed))
  .addError(Errors.onWire(Errors.BodyTooLarge))
  .addError(Errors.onWire(Errors.BrokerBusy))
  .addError(Errors.onWire(Errors.BrokerDraining))
  .annotate(OpenApi.Title, "runtime-broker")
  .annotate(OpenApi.Version, version)
  .annotate(
    OpenApi.Description,
    "The loopback surface of a runtime broker. Every route but /health and /v1/proof takes `Authorization: Bearer <token>`: " +
      "the plugin token of discovery.json, or the operator token of operator.json. Refusals are " +
      '`{"error": code, "message": sentence}`.'
  )
  .annotate(OpenApi.Transform, (json) => withPassedOn(withoutDecodeError(json))) {}
