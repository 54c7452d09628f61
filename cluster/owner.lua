-- owner: whose a member's presence is; it stands before the scripts that ask.

-- owner_of returns 1 when the connection is the member's live socket, 0 when a
-- newer one is, and -1 when none is recorded, or one that joined before it: Redis
-- has lost its record. Connections of older versions have no time of joining; a
-- record of theirs counts as newer.
local function owner_of(presence, conn, joined_at)
  local live = redis.call('HMGET', presence, 'conn', 'at')
  if not live[1] then return -1 end
  if live[1] == conn then return 1 end
  local theirs, ours = tonumber(live[2]), tonumber(joined_at)
  if theirs and ours and theirs < ours then return -1 end
  return 0
end

