-- The same request as create_order.lua, to the leanest route.
local common = require("common")

function init()
  message = wrk.format("POST", "/bare", common.headers, common.order)
end

function request()
  return message
end
