-- The first page of BENCH_LIST.
local common = require("common")

function init()
  message = wrk.format("GET", "/api/v1/" .. os.getenv("BENCH_LIST") .. "?limit=25", common.headers)
end

function request()
  return message
end
