() => {
    // Texts whose contrast with what is behind them is below 4.5, or below 3 if they are large: as WCAG 2 has it.
    const pen = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
    const known = new Map();
    const rgba = (colour) => known.get(colour) ?? known.set(colour, channels(colour)).get(colour);
    const channels = (colour) => {
        pen.clearRect(0, 0, 1, 1);
        pen.fillStyle = colour;
        pen.fillRect(0, 0, 1, 1);
        const [red, green, blue, alpha] = pen.getImageData(0, 0, 1, 1).data;
        return [red, green, blue, alpha / 255];
    };
    const over = (front, back) => [0, 1, 2].map((at) => front[at] * front[3] + back[at] * (1 - front[3]));
    const parents = (element) => (element ? [element, ...parents(element.parentElement)] : []);
    const behind = (element) => {
        let layers = [], base = [255, 255, 255];
        for (const each of parents(element)) {
            const colour = rgba(getComputedStyle(each).backgroundColor);
            if (colour[3] > 0) layers.unshift(colour);
            if (colour[3] === 1) break;
        }
        for (const layer of layers) base = over(layer, base);
        return base;
    };
    const light = (colour) => {
        const [red, green, blue] = colour.map((each) => (each / 255 <= 0.04045 ? each / 255 / 12.92 : ((each / 255 + 0.055) / 1.055) ** 2.4));
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05;
    };
    const found = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement, text = walker.currentNode.data.trim();
        if (!text || !element.checkVisibility({ visibilityProperty: true }) || element.closest("script, style, noscript, [disabled], .unseen")) continue;
        const style = getComputedStyle(element), colour = [...rgba(style.color)];
        colour[3] *= parents(element).reduce((all, each) => all * Number(getComputedStyle(each).opacity), 1);
        if (colour[3] < 0.05) continue;
        const back = behind(element), [dark, bright] = [light(over(colour, back)), light(back)].sort((a, b) => a - b);
        const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
        if (bright / dark < (large ? 3 : 4.5)) found.push([text.slice(0, 40), (bright / dark).toFixed(2), style.color]);
    }
    return [...new Map(found.map((each) => [each[2], each])).values()];
}
