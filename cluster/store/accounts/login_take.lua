-- Takes one failed login from each of several budgets, or from none of them. A
-- budget is a field that says when it will be whole again, in ms; one that is not
-- there is whole, and one that is whole is removed.
--
-- KEYS[1]  <prefix>login:{<bucket>} or <prefix>login-from:{<network>}, hash
-- ARGV[1…] of each budget: its field, the ms that a failure costs, and the ms that
--          it may be behind
--
-- When Redis is full: refused; the node then counts by itself
-- Returns 0, or the ms to wait until all of them have room; then nothing is taken.
local budgets = KEYS[1]

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local behind, over, life = {}, {}, 0 -- a few hundred fields at most: each cost a failure
local all = redis.call('HGETALL', budgets)
for i = 1, #all, 2 do
  local whole = tonumber(all[i + 1])
  if whole > now then
    behind[all[i]] = whole
    life = math.max(life, whole - now)
  else
    over[all[i]] = true
  end
end
local wait, taken = 0, {}
for i = 1, #ARGV, 3 do
  local whole = (behind[ARGV[i]] or now) + tonumber(ARGV[i + 1])
  wait = math.max(wait, whole - now - tonumber(ARGV[i + 2]))
  life = math.max(life, whole - now)
  over[ARGV[i]] = nil
  taken[#taken + 1] = ARGV[i]
  taken[#taken + 1] = string.format('%.0f', whole)
end
if wait > 0 then
  return wait
end
redis.call('HSET', budgets, unpack(taken))
for field in pairs(over) do
  redis.call('HDEL', budgets, field)
end
redis.call('PEXPIRE', budgets, string.format('%.0f', life))
return 0
