@echo off
rem vhdtool @ID@
rem Installs the update packages beside this file once, at the next start of this Windows, and takes itself out.
rem %1 is "service" or "setupcomplete": who started it. See stage.json, result.txt and runner.log in this directory.
rem Whatever stops it, it may be started again: each step is a directory that is made, or a file that is renamed.
setlocal EnableExtensions DisableDelayedExpansion
set "PATH=%SystemRoot%\System32;%SystemRoot%"
set "ID=@ID@"
set "WAY=service"
if /i "%~1"=="setupcomplete" set "WAY=setupcomplete"
set "HERE=%~dp0"
call :zero
cd /d "%HERE%"
if errorlevel 1 exit /b 1

rem One word for each start of Windows: HKLM\HARDWARE is made anew each time. Whoever comes first writes it; after a
rem pause both read the same.
set "MARK=HKLM\HARDWARE\DESCRIPTION\System"
call :token
if defined TOKEN goto begun
reg.exe add "%MARK%" /v vhdtool.boot /t REG_SZ /d "b%RANDOM%%RANDOM%%RANDOM%" /f >nul 2>nul
ping.exe -n @SETTLE@ 127.0.0.1 >nul 2>nul
call :token
if not defined TOKEN set "TOKEN=none"
if "%TOKEN%"=="none" rd "setup-none" 2>nul
:begun
if "%WAY%"=="setupcomplete" md "setup-%TOKEN%" 2>nul
if "%WAY%"=="setupcomplete" goto lock

rem The service waits until setup and the first questions to the user have ended; if that takes too long, until the
rem next start. SetupComplete.cmd must not wait: setup ends only when it returns.
set "WAITED=0"
:wait
set "SETUP="
call :dword SystemSetupInProgress
call :dword OOBEInProgress
if not defined SETUP goto lock
md "setup-%TOKEN%" 2>nul
set /a WAITED+=1
if %WAITED% GTR @WAITS@ goto tired
ping.exe -n @PAUSE@ 127.0.0.1 >nul 2>nul
goto wait
:tired
call :log "setup goes on: until the next start"
exit /b 0

rem One at a time. A lock of an earlier start is nobody's any more.
:lock
if "%TOKEN%"=="none" goto locked
call :zero
md "lock-%TOKEN%" 2>nul
if errorlevel 1 exit /b 0
for /d %%d in (lock-*) do if /i not "%%d"=="lock-%TOKEN%" rd "%%d" 2>nul
:locked
for /d %%d in (setup-*) do if /i not "%%d"=="setup-%TOKEN%" rd "%%d" 2>nul
if exist "done" goto clean
call :log "started by %WAY%"

rem Other packages that wait for a restart go first, three starts at most.
set "PENDING="
set "CBS=HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing"
reg.exe query "%CBS%\RebootPending" >nul 2>nul
if not errorlevel 1 set "PENDING=RebootPending"
reg.exe query "%CBS%\PackagesPending" >nul 2>nul
if not errorlevel 1 set "PENDING=PackagesPending"
if not defined PENDING goto work
if "%WAY%"=="setupcomplete" goto leave
set "DEFER="
for %%n in (3 2 1) do if not exist "defer-%%n" set "DEFER=%%n"
if not defined DEFER goto work
md "defer-%DEFER%"
call :log "other packages wait for a restart (%PENDING%): until the next start"
goto leave

:work
@EACH_CAB@
call :result
if "%STATE%"=="staged" goto leave

rem The host reads this through Data Exchange; the file is for whoever opens the disk.
reg.exe add "HKLM\SOFTWARE\Microsoft\Virtual Machine\Guest" /v vhdtool.stage /t REG_SZ /d "%ID%;%STATE%;%CODE%" /f >nul 2>nul
call :log "ended: %STATE%"
md "done-%TOKEN%" 2>nul
md "done" 2>nul

:clean
@EACH_DROP@
rem SetupComplete.cmd gets back what it was, unless somebody else has changed it since; not while it may be running.
if not exist "SetupComplete.staged" goto restored
if exist "setup-%TOKEN%" goto reboot
set "SCRIPT=%SystemRoot%\Setup\Scripts\SetupComplete.cmd"
if not exist "%SCRIPT%" goto unchained
fc.exe /b "%SCRIPT%" "SetupComplete.staged" >nul 2>nul
if errorlevel 1 goto unchained
if not exist "SetupComplete.before" goto remove
copy /b /y "SetupComplete.before" "%SCRIPT%" >nul 2>nul
goto unchained
:remove
del /f /q "%SCRIPT%" >nul 2>nul
:unchained
del /f /q "SetupComplete.staged" >nul 2>nul
:restored
sc.exe delete "@SERVICE@" >nul 2>nul

:reboot
if not "@REBOOT@"=="if-needed" goto leave
if not "%WAY%"=="service" goto leave
if not exist "done-%TOKEN%" goto leave
if exist "restarted" goto leave
find.exe " restart-pending " "result.txt" >nul 2>nul
if errorlevel 1 goto leave
md "restarted" 2>nul
call :log "restarts the guest, as asked for"
shutdown.exe /r /t 60 /c "vhdtool @ID@: an update needs a restart" >nul 2>nul

:leave
if not "%TOKEN%"=="none" rd "lock-%TOKEN%" 2>nul
exit /b 0

rem ----------------------------------------------------------------------------------------------------------------

rem MD and CD that do well leave the errorlevel as it was; this makes it 0 before.
:zero
exit /b 0

:token
set "TOKEN="
for /f "tokens=1,2,3" %%a in ('reg.exe query "%MARK%" /v vhdtool.boot 2^>nul') do if "%%b"=="REG_SZ" set "TOKEN=%%c"
exit /b 0

:dword
for /f "tokens=1,2,3" %%a in ('reg.exe query "HKLM\SYSTEM\Setup" /v %~1 2^>nul') do if "%%b"=="REG_DWORD" if not "%%c"=="0x0" set "SETUP=%%a"
exit /b 0

:log
>>"runner.log" echo %DATE% %TIME% %~1
exit /b 0

rem One package: number, file.
:cab
set "N=%~1"
set "CAB=%~2"
if exist "cab-%N%.state" exit /b 0
set "LAST=-"
if exist "cab-%N%.code" for /f "usebackq tokens=1" %%a in ("cab-%N%.code") do set "LAST=%%a"
set "TRY="
for %%n in (3 2 1) do if not exist "try-%N%-%%n" set "TRY=%%n"
if not defined TRY goto abandon
call :zero
md "try-%N%-%TRY%" 2>nul
if errorlevel 1 exit /b 0
call :log "%CAB%: attempt %TRY%"
call :result
call :install /English
if "%KIND%"=="again-without-english" call :install
call :log "%CAB%: %RC%"
>"cab-%N%.new" echo %RC%
move /y "cab-%N%.new" "cab-%N%.code" >nul
set "LAST=%RC%"
if "%KIND%"=="done" goto applied
if "%KIND%"=="restart" goto restart
if "%KIND%"=="not-applicable" goto inapplicable
if "%KIND%"=="permanent" goto failed
if "%TRY%"=="3" goto abandon
exit /b 0
:applied
set "END=applied"
goto end
:restart
set "END=restart-pending"
goto end
:inapplicable
set "END=not-applicable"
goto end
:failed
set "END=failed"
goto end
:abandon
set "END=abandoned"
:end
>"cab-%N%.new" echo %END% %LAST%
move /y "cab-%N%.new" "cab-%N%.state" >nul
exit /b 0

:install
@INSTALL@
set "RC=%ERRORLEVEL%"
set "KIND=retry"
@KINDS@
exit /b 0

rem What has come of it, for people and for vhdtool.
:result
set "COUNT=0"
for %%s in (staged applied restart-pending not-applicable failed abandoned) do set "HAS_%%s="
>"result.new" echo vhdtool-result 1
>>"result.new" echo id=%ID%
@EACH_RESULT@
set "STATE=staged"
set "CODE=-"
if defined HAS_staged goto told
for %%s in (not-applicable applied restart-pending abandoned failed) do if defined HAS_%%s set "STATE=%%s"
@EACH_CODE@
:told
>>"result.new" echo state=%STATE%
>>"result.new" echo end=%ID%
move /y "result.new" "result.txt" >nul
exit /b 0

:tell
set "S=staged"
set "C=-"
if exist "cab-%~1.code" for /f "usebackq tokens=1" %%a in ("cab-%~1.code") do set "C=%%a"
if exist "cab-%~1.state" for /f "usebackq tokens=1,2" %%a in ("cab-%~1.state") do set "S=%%a"
if exist "cab-%~1.state" for /f "usebackq tokens=1,2" %%a in ("cab-%~1.state") do set "C=%%b"
set "T=0"
for %%n in (1 2 3) do if exist "try-%~1-%%n" set "T=%%n"
set "HAS_%S%=1"
set "CODE_%~1=%C%"
set "STATE_%~1=%S%"
>>"result.new" echo cab=%~1 %S% %C% %T% %~2
exit /b 0

rem A package that has ended well is not needed any more.
:drop
set "S=staged"
if exist "cab-%~1.state" for /f "usebackq tokens=1" %%a in ("cab-%~1.state") do set "S=%%a"
for %%s in (applied restart-pending not-applicable) do if "%S%"=="%%s" del /f /q "%~2" >nul 2>nul
exit /b 0
