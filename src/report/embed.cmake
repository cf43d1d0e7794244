# Files as a C source: cmake -DOUT=page_files.c -DDIR=folder -P embed.cmake. For each of page.html, page.css and page.js
# an array of page_files.h, with a zero at its end.
set(text "#include \"report/page_files.h\"\n")
foreach(kind html css js)
    file(READ ${DIR}/page.${kind} hex HEX)
    string(REGEX REPLACE "(................................................................)" "\\1\n" hex "${hex}")
    string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
    string(TOUPPER ${kind} name)
    string(APPEND text "\nconst unsigned char PAGE_${name}[] = {\n${bytes}0};\n")
endforeach()
file(WRITE ${OUT} "${text}")
