-- The same as create_order.lua, each under an Idempotency-Key of its own.
local common = require("common")

function init()
  begun, sent = os.time(), 0
end

function request()
  sent = sent + 1
  common.headers["Idempotency-Key"] = string.format("bench-%d-%d-%d", begun, thread_number, sent)
  return wrk.format("POST", "/api/v1/orders", common.headers, common.order)
end
