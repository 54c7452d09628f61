-- Gives back what login_take.lua took, for a login that did not fail.
--
-- KEYS[1]  <prefix>login:{<bucket>} or <prefix>login-from:{<network>}, hash
-- ARGV[1…] of each budget: its field and the ms that a failure costs
--
-- When Redis is full: goes on
-- Returns 1.
local budgets = KEYS[1]

redis.call('HDEL', budgets, '') -- nothing, and not refused
for i = 1, #ARGV, 2 do
  if redis.call('HEXISTS', budgets, ARGV[i]) == 1 then
    redis.call('HINCRBY', budgets, ARGV[i], '-' .. ARGV[i + 1])
  end
end
return 1
