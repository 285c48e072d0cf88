local common = require("common")

local body = '{"amount": 10000, "currency": "INR", "receipt": "receipt-1", "notes": {"cart": "42"}}'

function init()
  message = wrk.format("POST", "/api/v1/orders", common.headers, body)
end

function request()
  return message
end
