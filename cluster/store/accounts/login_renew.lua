-- Begins a login that can be renewed, or renews one: moves its number on by one.
--
-- KEYS[1]  <prefix>logins:{<user>}, hash
-- ARGV[1]  the login's id
-- ARGV[2]  number of the refresh token that is shown; 0 begins the login
-- ARGV[3]  the attempt by which its client knows its own repetitions, or ""
-- ARGV[4]  label, for people
-- ARGV[5]  when the login began, ms
-- ARGV[6]  for how long it can be renewed from now on, ms
-- ARGV[7]  for how long a repetition without an attempt is taken for one, ms
-- ARGV[8]  most logins of a user; the one that was renewed longest ago gives way
--
-- When Redis is full: goes on.
-- Returns the number of the refresh token that follows; 0 for one that has been
-- used by somebody else, which ends the login; -1 for the late repetition of an
-- attempt that has been answered and has been followed by others.
--
-- A number beyond the one that is noted, or of a login that is not noted, is one
-- that Redis has lost: the token is good all the same, since its code is.
local logins = KEYS[1]
local login, shown, attempt, label = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local began, life, grace, most = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local kept = 8 -- attempts that are remembered

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local function put(noted)
  redis.call('HDEL', logins, '') -- nothing, and not refused
  redis.call('HSET', logins, login, cjson.encode(noted))
  redis.call('PEXPIRE', logins, life)
  return noted.number
end

local text = redis.call('HGET', logins, login)
local noted = text and cjson.decode(text) or {number = shown, began = began, label = label, attempts = {}}

if shown >= noted.number then
  if not text then
    local all, oldest, live = redis.call('HGETALL', logins), nil, 0
    for i = 1, #all, 2 do
      local other = cjson.decode(all[i + 1])
      if other.until_ms < now then
        redis.call('HDEL', logins, all[i])
      else
        live = live + 1
        if not oldest or other.renewed < oldest.renewed then oldest = {renewed = other.renewed, id = all[i]} end
      end
    end
    if live >= most then
      redis.call('HDEL', logins, oldest.id)
    end
  end
  table.insert(noted.attempts, string.format('%d ', shown) .. attempt)
  while #noted.attempts > kept do
    table.remove(noted.attempts, 1)
  end
  noted.number, noted.renewed, noted.until_ms, noted.again = shown + 1, now, now + life, false
  return put(noted)
end

local same = false
for _, before in ipairs(noted.attempts) do
  same = same or before == string.format('%d ', shown) .. attempt
end
if shown == noted.number - 1 and same then
  if attempt ~= '' then
    return noted.number
  end
  if not noted.again and now - noted.renewed <= grace then
    noted.again = true
    return put(noted)
  end
end
if same and attempt ~= '' then
  return -1
end
redis.call('HDEL', logins, login)
return 0
