local common = require("common")

function init()
  message = wrk.format("POST", "/api/v1/orders", common.headers, common.order)
end

function request()
  return message
end
