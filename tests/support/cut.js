() => [...document.querySelectorAll("body *")].filter((each) => {
    const style = getComputedStyle(each);
    return each.checkVisibility() && style.overflowX !== "auto" && style.overflowX !== "scroll" && each.clientWidth > 0
        && each.scrollWidth > each.clientWidth + 1 && !each.closest(".unseen, select, nav, .md-header, [class*=hidden]");
}).map((each) => each.outerHTML.slice(0, 80))
