-- One payment after the other, and again.
local common = require("common")

function init()
  next_id = common.ids(true)
end

function request()
  return wrk.format("GET", "/api/v1/payments/" .. next_id(), common.headers)
end
