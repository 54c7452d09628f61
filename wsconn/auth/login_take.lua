-- Takes one failed login from each of several budgets, or from none of them. A
-- budget is a field that says when it will be whole again, in ms; one that is not
-- there is whole.
--
-- KEYS[1]  <prefix>login:{<bucket>} or <prefix>login-from:{<network>}, hash
-- ARGV[1]  fields beyond which those that are whole are removed
-- ARGV[2…] of each budget: its field, the ms that a failure costs, and the ms that
--          it may be behind
--
-- When Redis is full: refused; the node then counts by itself
-- Returns 0, or the ms to wait until all of them have room; then nothing is taken.
local budgets = KEYS[1]
local many = tonumber(ARGV[1])

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local wait, life, taken = 0, 0, {}
for i = 2, #ARGV, 3 do
  local whole = math.max(tonumber(redis.call('HGET', budgets, ARGV[i]) or 0), now) + tonumber(ARGV[i + 1])
  wait = math.max(wait, whole - now - tonumber(ARGV[i + 2]))
  life = math.max(life, whole - now)
  taken[#taken + 1] = ARGV[i]
  taken[#taken + 1] = string.format('%.0f', whole)
end
if wait > 0 then
  return wait
end
redis.call('HSET', budgets, unpack(taken))
redis.call('PEXPIRE', budgets, string.format('%.0f', math.max(life, redis.call('PTTL', budgets))))
if redis.call('HLEN', budgets) > many then
  local all = redis.call('HGETALL', budgets)
  for i = 1, #all, 2 do
    if tonumber(all[i + 1]) <= now then
      redis.call('HDEL', budgets, all[i])
    end
  end
end
return 0
