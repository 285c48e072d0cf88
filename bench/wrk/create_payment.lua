-- One payment of each order.
local common = require("common")

function init()
  next_id = common.ids(false)
end

function request()
  local body = string.format('{"order_id": "%s", "method": "upi", "vpa": "success@upi"}', next_id())
  return wrk.format("POST", "/api/v1/payments", common.headers, body)
end
