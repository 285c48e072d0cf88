-- The same request as create_order.lua, to the leanest route.
local common = require("common")

local body = '{"amount": 10000, "currency": "INR", "receipt": "receipt-1", "notes": {"cart": "42"}}'

function init()
  message = wrk.format("POST", "/bare", common.headers, body)
end

function request()
  return message
end
